"""Importance is the change that editing the graph by hand makes, for any number of trials."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from motet.compiler.calibration.gates import activation
from motet.compiler.calibration.importance import OutputChange, importance
from motet.compiler.calibration.least_squares import AffineFit
from motet.compiler.calibration.values import checked_model
from motet.compiler.onnx_graph import OnnxGraph
from motet.runtime.errors import ModelError

SEEDS = (0, 1)
DATA = [
    {"x": np.random.default_rng(seed).standard_normal((2, 3, 4, 4), "float32")} for seed in SEEDS
]


def _model(path: Path) -> Path:
    """Conv, ReLU6 as Clip, Conv, SiLU as Sigmoid and Mul (unnamed), Conv."""
    random = np.random.default_rng(0)
    weights = {f"w{i}": 2 * random.standard_normal((3, 3, 1, 1)) for i in range(3)}
    weights |= {"low": np.array(0.0), "high": np.array(6.0)}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "c0"),
        helper.make_node("Clip", ["a", "low", "high"], ["b"], "relu6"),
        helper.make_node("Conv", ["b", "w1"], ["c"], "c1"),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["d"]),
        helper.make_node("Conv", ["d", "w2"], ["y"], "c2"),
    ]
    shape = ["N", 3, 4, 4]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(w.astype("float32"), n) for n, w in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def _by_hand(weights: dict[str, np.ndarray], stand_ins: dict[str, np.ndarray]) -> float:
    def silu(x: np.ndarray) -> np.ndarray:
        return x / (1 + np.exp(-x))

    def network(x: np.ndarray, replaced: dict[str, np.ndarray]) -> np.ndarray:
        for index, act in enumerate((lambda v: np.clip(v, 0, 6), silu, None)):
            x = np.einsum("oi,nihw->nohw", weights[f"w{index}"][:, :, 0, 0], x)
            name = ("relu6", "Mul_4", "")[index]
            if name in replaced:
                scale, shift = replaced[name][:, None, :, None, None]
                x = x * scale + shift
            elif act is not None:
                x = act(x)
        return x

    square = whole = 0.0
    for inputs in DATA:
        x = inputs["x"].astype(np.float64)
        want = network(x, {})
        square += ((network(x, stand_ins) - want) ** 2).sum()
        whole += (want**2).sum()
    return float(np.sqrt(square / whole))


def test_importance_is_the_change_of_the_edited_network(tmp_path: Path) -> None:
    path = _model(tmp_path / "m.onnx")
    weights = {
        t.name: numpy_helper.to_array(t).astype(np.float64)
        for t in onnx.load(path).graph.initializer
    }
    relu6, silu = ("relu6",), ("Sigmoid_3", "Mul_4")
    trials = {"first": [relu6], "second": [silu], "both": [relu6, silu]}
    found, affines = importance(checked_model(path, {}), trials, DATA, "m.onnx", threads=1)
    plain = np.stack([np.ones(3), np.zeros(3)])
    members = {"first": ["relu6"], "second": ["Mul_4"], "both": ["relu6", "Mul_4"]}
    assert [one.name for one in found] == list(trials)
    for one in found:
        names = members[one.name]
        want = _by_hand(weights, dict.fromkeys(names, plain))
        assert one.identity == pytest.approx(want, rel=1e-3)
        assert one.affine == pytest.approx(
            _by_hand(weights, {n: affines[n] for n in names}), rel=1e-3
        )
        assert 0 < one.fit_error < 1


def test_the_affine_maps_are_the_fits_of_the_activations(tmp_path: Path) -> None:
    path = _model(tmp_path / "m.onnx")
    _, affines = importance(checked_model(path, {}), {"r": [("relu6",)]}, DATA, "m", threads=1)
    weight = numpy_helper.to_array(onnx.load(path).graph.initializer[0])[:, :, 0, 0]
    fit = AffineFit(3)
    for inputs in DATA:
        x = np.einsum("oi,nihw->nohw", weight, inputs["x"])
        fit.add(x, np.clip(x, 0, 6))
    np.testing.assert_allclose(affines["relu6"], fit.scale_and_shift, atol=1e-4)


def test_what_is_no_activation_is_refused(tmp_path: Path) -> None:
    graph = OnnxGraph(checked_model(_model(tmp_path / "m.onnx"), {}), "m.onnx")
    with pytest.raises(ModelError, match="no node 'relu'"):
        activation(graph, ["relu"])
    with pytest.raises(ModelError, match="read 2 values"):
        activation(graph, ["Mul_4"])
    with pytest.raises(ModelError, match="2 values of nodes Sigmoid_3, relu6 are read by others"):
        graph.result(["Sigmoid_3", "relu6"])


def test_the_change_of_several_outputs_is_the_root_of_their_mean_square() -> None:
    change = OutputChange()
    one, two = np.ones(4, "f4"), np.full(2, 2.0, "f4")
    change.add({"a": one, "b": two, "k": np.ones(1, "i8")}, {"a": 2 * one, "b": two, "k": 0})
    assert change.value == pytest.approx(np.sqrt((1 + 0) / 2))
    change = OutputChange()
    change.add({"a": one}, {"a": np.ones(3, "f4")})
    assert change.value == 1
