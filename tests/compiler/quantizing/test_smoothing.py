"""Scales moved from data into weights: equal in float, channels nearer to each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from motet.compiler.calibration.channel_maxima import ChannelMaxima
from motet.compiler.quantizing.products import OPERATORS, products_of
from motet.compiler.quantizing.smoothing import smoothable, smoothed

RNG = np.random.default_rng(0)
C = 8


def reals(*shape: int, spread: bool = False) -> np.ndarray:
    found = RNG.standard_normal(shape)
    if spread:  # of channels of what is made
        found = found * np.geomspace(0.1, 50, C).reshape(C, *(1,) * (len(shape) - 1))
    return found.astype(np.float32)


def model_of(
    nodes: list[onnx.NodeProto], x: np.ndarray, stored: dict[str, np.ndarray], *more: str
) -> onnx.ModelProto:
    sizes = [f"d{axis}" for axis in range(x.ndim)]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in ("y", *more)]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)], infos,
        [numpy_helper.from_array(np.asarray(a, np.float32), name) for name, a in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def values_of(model: onnx.ModelProto, x: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    names = [name for name in names if name != "x"]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    whole.graph.output.extend(infos)
    if not names:
        return {"x": x}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(whole.SerializeToString(), options)
    return dict(zip(names, session.run(None, {"x": x}), strict=True)) | {"x": x}


def smooth(
    model: onnx.ModelProto, x: np.ndarray, alpha: float = 0.5
) -> tuple[onnx.ModelProto, dict[str, str]]:
    reads = [each.input[0] for each in model.graph.node if each.op_type in OPERATORS]
    values = values_of(model, x, reads)
    products, _ = products_of(model, {name: array.shape for name, array in values.items()})
    maxima = ChannelMaxima(smoothable(products))
    maxima.add(values)
    return smoothed(model, products, maxima.found, alpha)


def node(operator: str, inputs: str, output: str, name: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], name, **attributes)


IMAGE, ROWS = (2, 4, 7, 7), (2, 5, C)
CONV = node("Conv", "v w", "y", "reader", pads=[1] * 4)
MATMUL = node("MatMul", "v w", "y", "reader")
CHAINS: dict[str, tuple[tuple[int, ...], list[onnx.NodeProto], str]] = {
    "through ReLU": (IMAGE, [node("Conv", "x k b", "a", "maker"), node("Relu", "a", "v", "relu"),
                             CONV], "maker"),
    "through PReLU": (IMAGE, [node("Conv", "x k", "a", "maker"), node("PRelu", "a p", "v", "act"),
                              CONV], "maker"),
    "grouped": (IMAGE, [node("Conv", "x g b", "a", "maker", group=2),
                        node("MaxPool", "a", "v", "pool", kernel_shape=[2, 2]), CONV], "maker"),
    "SiLU": (IMAGE, [node("Conv", "x k b", "a", "maker"), node("Sigmoid", "a", "s", "gate"),
                     node("Mul", "a s", "v", "act"), CONV], "Mul"),
    "LayerNormalization": (ROWS, [node("LayerNormalization", "x n b", "v", "norm"), MATMUL],
                           "norm"),
    "BatchNormalization": (IMAGE, [node("Conv", "x k", "a", "before"), node("Relu", "a", "c", "r"),
                                   node("BatchNormalization", "c n b m q", "v", "norm"), CONV],
                           "norm"),
    "scale and shift": (ROWS, [node("Mul", "n x", "a", "scale"), node("Add", "a b", "v", "shift"),
                               MATMUL], "scale"),
    "matrix product": (ROWS, [node("MatMul", "x u", "a", "maker"), node("Add", "b a", "v", "bias"),
                              MATMUL], "maker"),
    "an input": (ROWS, [node("MatMul", "x w", "y", "reader")], "Mul"),
    "Gemm": ((50, C), [node("Gemm", "x u b", "a", "maker", alpha=0.5, beta=2.0),
                      node("Relu", "a", "v", "relu"), node("Gemm", "v w", "y", "reader")],
             "maker"),
}  # fmt: skip


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("name", CHAINS)
def test_smoothed_models_compute_the_same(name: str, alpha: float) -> None:
    shape, nodes, maker = CHAINS[name]
    x = reals(*shape)
    last = {IMAGE: (6, C, 3, 3), ROWS: (C, 6), (50, C): (C, 6)}[shape]
    stored = {
        "w": reals(*last), "k": reals(C, 4, 3, 3, spread=True), "b": reals(C, spread=True),
        "g": reals(C, 2, 3, 3, spread=True), "p": np.abs(reals(C, 1, 1)),
        "n": reals(C, spread=True),
        "m": reals(C), "q": np.abs(reals(C)) + 1, "u": reals(C, C, spread=True).T,
    }  # fmt: skip
    model = model_of(nodes, x, stored)
    made, found = smooth(model, x, alpha)
    onnx.checker.check_model(made)
    assert found["reader"] == maker
    assert ("Mul" in found.values()) is (len(made.graph.node) > len(model.graph.node))
    want, got = (values_of(each, x, ["y"])["y"] for each in (model, made))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    reader = {each.name: each.input[0] for each in made.graph.node}["reader"]
    axis = 1 if shape == IMAGE else len(shape) - 1
    spreads = []
    for each, tensor in ((model, "v" if name != "an input" else "x"), (made, reader)):
        data = values_of(each, x, [tensor])[tensor]
        rest = tuple(other for other in range(data.ndim) if other != axis)
        top = np.abs(data).max(axis=rest)
        spreads.append(top.max() / top.min())
    if alpha == 1:
        assert spreads[1] == pytest.approx(1, rel=1e-4)
    elif name != "an input":
        assert spreads[1] < 0.5 * spreads[0]


def test_what_others_read_is_divided_for_the_products_alone() -> None:
    x = reals(*IMAGE)
    stored = {"k": reals(C, 4, 3, 3, spread=True), "w": reals(6, C, 1, 1), "u": reals(6, C, 1, 1)}
    nodes = [
        node("Conv", "x k", "v", "maker"),
        node("Conv", "v w", "y", "one"),
        node("Conv", "v u", "z", "two"),
        node("Sigmoid", "v", "s", "gate"),
    ]
    model = model_of(nodes, x, stored, "z", "s")
    made, found = smooth(model, x)
    assert {found["one"], found["two"]} == {"Mul"}
    scales = [each for each in made.graph.node if each.op_type == "Mul"]
    assert len(scales) == 2  # of x, and one of v for both
    for name in ("y", "z", "s"):
        want, got = (values_of(each, x, [name])[name] for each in (model, made))
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


def test_channels_that_are_never_used_stay() -> None:
    x = reals(*ROWS)
    x[..., 3] = 0
    weights = reals(C, 6)
    weights[5] = 0
    model = model_of([node("MatMul", "x w", "y", "reader")], x, {"w": weights})
    made, _ = smooth(model, x)
    constants = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    scale = next(a for name, a in constants.items() if "smoothing" in name)
    assert scale[3] == scale[5] == 1
    assert np.isfinite(scale).all()
