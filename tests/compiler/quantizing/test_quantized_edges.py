"""Edges of quantised files: zeros, an outlier, the widest sums, what is not finite; integers.

onnxruntime reads the integers, scales and steps that the definition gives, every one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import motet
from motet.compiler.calibration.values import ValueObserver
from motet.compiler.quantizing.choices import Choice, chosen
from motet.compiler.quantizing.products import products_of
from motet.compiler.quantizing.rewriting import rewritten
from motet.compiler.quantizing.statistics import statistics_of
from motet.quantized_model import QuantizeOptions
from motet.runtime.errors import MotetError
from motet.targets.quantized.accumulators import accumulator_bits
from motet.targets.quantized.notation import setting
from motet.targets.quantized.products import matmul
from motet.targets.quantized.scales import quantized

FORMS = [("8/8", "tensor"), ("8/8", "channel"), ("4/8/6/10", "vector"), ("4/4/-/-", "vector")]


def product(x: np.ndarray, weights: np.ndarray) -> onnx.ModelProto:
    """``y = x @ w``."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [len(x), weights.shape[1]])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def made(
    x: np.ndarray, weights: np.ndarray, text: str, granularity: str = "channel", v: int = 16
) -> tuple[onnx.ModelProto, Choice]:
    model = product(x, weights)
    seen = statistics_of(model, [{"x": x}])
    (one,), _ = products_of(model, seen.shapes)
    choice = chosen(one, setting(text, v, granularity), seen.magnitudes)  # type: ignore[arg-type]
    return rewritten(model, [choice]), choice


def values_of(model: onnx.ModelProto, x: np.ndarray, names: dict[str, int]) -> list[np.ndarray]:
    """Values of onnxruntime, node by node as the file has them: name to element type."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(
        helper.make_tensor_value_info(name, kind, None) for name, kind in names.items()
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options)
    return [np.asarray(each) for each in session.run(["y", *names], {"x": x})]


@pytest.mark.parametrize(("text", "granularity"), FORMS)
@pytest.mark.parametrize("seed", range(3))
def test_weights_in_onnxruntime_are_the_definitions(text: str, granularity: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, 37)).astype(np.float32)
    w = rng.standard_normal((37, 6)) * np.exp(2 * rng.standard_normal((1, 6)))
    model, choice = made(x, w, text, granularity)
    want = quantized(w.astype(np.float32), choice.weights, choice.product.weights.axes)
    _, reals = values_of(model, x, {"w_dequantized": TensorProto.FLOAT})
    np.testing.assert_array_equal(reals, want.dequantized())
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    np.testing.assert_array_equal(stored["w_quantized"].astype(np.int8), want.values)
    if want.scales is not None:
        np.testing.assert_array_equal(stored["w_vector_scale"].astype(np.int64), want.scales)
        np.testing.assert_array_equal(stored["w_gamma"].ravel(), want.gamma.ravel())


@pytest.mark.parametrize("text", ["8/8", "4/6", "4/4"])
@pytest.mark.parametrize("positive", [False, True])
def test_integers_of_a_tensor_in_onnxruntime_are_the_definitions(text: str, positive: bool) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((64, 48)).astype(np.float32)
    x = np.abs(x) if positive else x
    model, choice = made(x, rng.standard_normal((48, 3)), text)
    beyond = x * np.float32(1.5)  # what calibration never saw is clipped alike
    want = quantized(beyond, choice.data.type, choice.product.data.axes, gamma=choice.data.gamma)
    kind = TensorProto.UINT8 if positive else TensorProto.INT8
    name = "x_clipped" if any(n.op_type == "Clip" for n in model.graph.node) else "x_quantized"
    _, integers = values_of(model, beyond, {name: kind})
    np.testing.assert_array_equal(integers, want.values)


@pytest.mark.parametrize(("text", "granularity"), FORMS)
def test_all_zeros(text: str, granularity: str) -> None:
    """Zero data or zero weights give zeros, not NaN, and data that is not zero later none."""
    ones = np.ones((3, 20), np.float32)
    for x, w in ((0 * ones, np.ones((20, 2))), (ones, np.zeros((20, 2)))):
        model, _ = made(x, w, text, granularity)
        for data in (x, 0 * ones):
            (y,) = values_of(model, data, {})
            assert not y.any()
            assert not ValueObserver(model, ["y"]).run({"x": data})["y"].any()


def test_one_outlier_by_hand() -> None:
    """Weights 1 and one of 70: a scale for all of 10 rounds 1 away, vectors keep it."""
    w = np.ones((16, 1), np.float32)
    w[5] = 70
    x = np.eye(16, dtype=np.float32)
    coarse, _ = made(x, w, "4/8", "channel")  # step 10: 1 becomes 0
    (y,) = values_of(coarse, x, {})
    assert np.flatnonzero(y).tolist() == [5]
    assert y[5, 0] == pytest.approx(70, rel=1e-2)
    fine, choice = made(x, w, "4/8/8/10", "vector", 4)
    (y,) = values_of(fine, x, {})
    # gamma = 10 / 255; a step of 1/7 is 3.6 of it: 4; 7 for 1 is then 6.4: 6, 6 * 4 * 10 / 255
    np.testing.assert_allclose(y[:4, 0], 6 * 4 * 10 / 255, rtol=5e-3)
    np.testing.assert_allclose(y[8:, 0], 6 * 4 * 10 / 255, rtol=5e-3)
    assert y[4, 0] == 0  # shares its vector with the outlier
    assert y[5, 0] == pytest.approx(70, rel=1e-2)
    assert choice.weights.vector == 4


@pytest.mark.parametrize(("text", "depth"), [("8/8", 1030), ("4/8", 18000)])
def test_the_widest_sums(text: str, depth: int) -> None:
    """Every operand at its largest: just within float32's 24 bits, where all are exact."""
    x = np.full((2, depth), 3.0, np.float32)
    w = np.full((depth, 2), 5.0, np.float32)
    x[1] *= -1
    w[:, 1] *= -1
    model, choice = made(x, w, text)
    left = quantized(x, choice.data.type, choice.product.data.axes, gamma=choice.data.gamma)
    right = quantized(w, choice.weights, choice.product.weights.axes)
    want = matmul(left, right)
    assert int(np.abs(want.sums).max()).bit_length() == 24
    assert accumulator_bits(choice.weights, choice.data.type, [depth]) == 25
    (y,) = values_of(model, x, {})
    ours = ValueObserver(model, ["y"]).run({"x": x})["y"]
    np.testing.assert_allclose(y, want.real(), rtol=2e-6)
    np.testing.assert_allclose(ours, want.real(), rtol=2e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(tmp_path: Path, bad: float) -> None:
    """In weights, in the data, and in what the model computes of it."""
    x, w = np.ones((2, 8), np.float32), np.ones((8, 8), np.float32)
    options = QuantizeOptions()
    broken = w.copy()
    broken[3, 4] = bad
    onnx.save(product(x, broken), tmp_path / "weights.onnx")
    with pytest.raises(MotetError, match="'product': its weights 'w' hold NaN or infinity"):
        motet.quantize(tmp_path / "weights.onnx", {"x": x}, options=options)
    onnx.save(product(x, w), tmp_path / "good.onnx")
    data = x.copy()
    data[1, 2] = bad
    with pytest.raises(MotetError, match="calibration run 0, input 'x' holds NaN or infinity"):
        motet.quantize(tmp_path / "good.onnx", {"x": data}, options=options)
    model = product(x, w)
    node = helper.make_node("Log" if np.isnan(bad) else "Reciprocal", ["x"], ["inner"])
    model.graph.node.insert(0, node)
    model.graph.node[1].input[0] = "inner"
    onnx.save(model, tmp_path / "computed.onnx")
    data[1, 2] = -1.0 if np.isnan(bad) else 0.0
    with pytest.raises(MotetError, match="value 'inner' is not finite on the calibration data"):
        motet.quantize(tmp_path / "computed.onnx", {"x": data}, options=options)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("form", ["7/8", "5/6", "4/8/6/10"])
def test_onnxruntime_takes_matrix_products_of_three_axes(
    tmp_path: Path, bias: bool, form: str
) -> None:
    """It fuses a MatMul and an Add along the last axis, but not around a quantisation."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 5, 8)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p" if bias else "y"], name="product")]
    stored = {"w": rng.standard_normal((8, 6)), "b": rng.standard_normal(6)}
    if bias:
        nodes.append(helper.make_node("Add", ["p", "b"], ["y"], name="bias"))
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5, 6])],
        [numpy_helper.from_array(stored[name].astype(np.float32), name)
         for name in ("w", "b")[: 1 + bias]],
    )  # fmt: skip
    path = tmp_path / "product.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    made = motet.quantize(path, {"x": x}, options=QuantizeOptions(setting=form))
    made.save(tmp_path / "q.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "q.onnx", providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": x[:1]})
    exact = x[:1] @ stored["w"].astype(np.float32) + (stored["b"] if bias else 0)
    assert np.abs(result - exact).max() < 0.2 * np.abs(exact).max()
    assert onnx.load(tmp_path / "q.onnx").ir_version >= 10


def test_a_quantised_model_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 32)).astype(np.float32)
    onnx.save(product(x, rng.standard_normal((32, 8))), tmp_path / "m.onnx")
    motet.quantize(tmp_path / "m.onnx", {"x": x}).save(tmp_path / "q.onnx")
    with pytest.raises(MotetError, match=r"q\.onnx is quantised already .*start from the float"):
        motet.quantize(tmp_path / "q.onnx", {"x": x})
