"""Quantised ONNX files: onnxruntime and Motet compute what the definition says, to the integer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from motet.compiler.calibration.values import ValueObserver
from motet.compiler.quantizing.choices import Choice, chosen
from motet.compiler.quantizing.products import Product, products_of
from motet.compiler.quantizing.rewriting import rewritten
from motet.compiler.quantizing.statistics import statistics_of
from motet.compiler.vector_functions import DOMAIN
from motet.runtime.errors import CompileError
from motet.targets.quantized.notation import setting
from motet.targets.quantized.products import Product as Sum
from motet.targets.quantized.products import convolution, matmul
from motet.targets.quantized.scales import quantized


def model_of(node: onnx.NodeProto, x: np.ndarray, weights: np.ndarray | None) -> onnx.ModelProto:
    """One product of ``x`` and ``weights``, or of ``x`` and a second input like ``x``."""
    shape = lambda rank: [f"d{i}" for i in range(rank)]  # noqa: E731
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
    if weights is None:
        inputs.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, x.shape))
    stored = [] if weights is None else [numpy_helper.from_array(weights, "w")]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape(x.ndim))
    graph = helper.make_graph([node], "g", inputs, [output], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def choice_of(
    model: onnx.ModelProto, inputs: dict[str, np.ndarray], text: str, v: int, granularity: str
) -> tuple[Product, Choice]:
    seen = statistics_of(model, [inputs])
    (product,), refused = products_of(model, seen.shapes)
    assert not refused
    return product, chosen(product, setting(text, v, granularity), seen.magnitudes)


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    if not any(each.name == "block_size" for node in model.graph.node for each in node.attribute):
        # Without it sums of two products saturate at 16 bits on CPUs without VNNI; with it
        # onnxruntime 1.31 adds zero points of the wrong shape to blocks.
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return list(session.run(None, inputs))


def expected(choice: Choice, inputs: dict[str, np.ndarray], **geometry: object) -> Sum:
    """The product by the definition."""
    product = choice.product
    data = quantized(inputs["x"], choice.data.type, product.data.axes, gamma=choice.data.gamma)
    if choice.weights_static is not None:
        static = choice.weights_static
        right = quantized(inputs["w"], static.type, product.weights.axes, gamma=static.gamma)
    else:
        assert product.weights.values is not None
        right = quantized(product.weights.values, choice.weights, product.weights.axes)
    if product.operator == "Conv":
        return convolution(data, right, groups=product.groups, **geometry)  # type: ignore[arg-type]
    return matmul(data, right)


SETTINGS = [
    ("8/8", "tensor"), ("8/8", "channel"), ("4/6", "channel"), ("4/8/6/10", "vector"),
    ("4/4/4/4", "vector"), ("3/2/9/12", "vector"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "granularity"), SETTINGS)
@pytest.mark.parametrize("positive", [False, True])
def test_convolutions(text: str, granularity: str, positive: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 21, 6, 5)).astype(np.float32)
    x = np.abs(x) if positive else x
    x[0, 8:16, 2] = 0  # a vector of zeros
    w = rng.standard_normal((5, 21, 3, 3)).astype(np.float32)
    w[0] = 0  # a channel of zeros
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 1], pads=[1, 0, 1, 2])
    model = model_of(node, x, w)
    _, choice = choice_of(model, {"x": x}, text, 8, granularity)
    assert choice.data.type.signed is not positive
    want = expected(
        choice, {"x": x}, strides=(2, 1), pads=(1, 0, 1, 2), dilations=(1, 1)
    )  # fmt: skip
    (y,) = run(rewritten(model, [choice]), {"x": x})
    np.testing.assert_allclose(y, want.real(), rtol=0, atol=2e-5 * np.abs(want.real()).max())


@pytest.mark.parametrize(("text", "granularity"), SETTINGS)
def test_depthwise_and_grouped_convolutions(text: str, granularity: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 16, 6, 6)).astype(np.float32)
    x[:, 3] = 0  # a channel of zeros
    x[:, 5] *= 30
    for groups in (16, 2, 4):  # depthwise; groups of one vector; vectors that straddle
        w = rng.standard_normal((32, 16 // groups, 3, 3)).astype(np.float32)
        model = model_of(helper.make_node("Conv", ["x", "w"], ["y"], group=groups), x, w)
        product, choice = choice_of(model, {"x": x}, text, 8, granularity)
        assert product.is_depthwise is (groups == 16)
        found = {16: "channel", 2: "vector", 4: "tensor"}[groups]
        if granularity != "vector" and (groups != 16 or granularity == "tensor"):
            found = "tensor"
        assert choice.data.type.granularity == found
        geometry = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1)}
        want = expected(choice, {"x": x}, **geometry).real()
        (y,) = run(rewritten(model, [choice]), {"x": x})
        np.testing.assert_allclose(y, want, rtol=0, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize(("text", "granularity"), SETTINGS)
def test_matrix_products(text: str, granularity: str) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3, 37)).astype(np.float32)
    w = rng.standard_normal((37, 6)).astype(np.float32)
    for node, weights in (
        (helper.make_node("MatMul", ["x", "w"], ["y"]), w),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), w.T.copy()),
    ):
        model = model_of(node, x, weights)
        _, choice = choice_of(model, {"x": x}, text, 16, granularity)
        data = quantized(x, choice.data.type, choice.product.data.axes, gamma=choice.data.gamma)
        right = quantized(weights, choice.weights, choice.product.weights.axes)
        want = data.dequantized() @ (
            right.dequantized() if node.op_type == "MatMul" else right.dequantized().T
        )
        (y,) = run(rewritten(model, [choice]), {"x": x})
        np.testing.assert_allclose(y, want, rtol=0, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("text", ["8/8", "4/8/6/10", "8/4/-/-"])
def test_products_of_computed_values(text: str) -> None:
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 2, 3, 20, 20)).astype(np.float32)
    model = model_of(helper.make_node("MatMul", ["x", "w"], ["y"]), x, None)
    inputs = {"x": x, "w": w}
    _, choice = choice_of(model, inputs, text, 8, "tensor")
    left = quantized(x, choice.data.type, choice.product.data.axes, gamma=choice.data.gamma)
    static = choice.weights_static
    assert static is not None
    right = quantized(w, static.type, choice.product.weights.axes, gamma=static.gamma)
    want = left.dequantized() @ right.dequantized()
    (y,) = run(rewritten(model, [choice]), inputs)
    np.testing.assert_allclose(y, want, rtol=0, atol=2e-5 * np.abs(want).max())


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 40), st.sampled_from([4, 8, 16]), st.sampled_from(["8/8/-/-", "8/4/6/10"]),
    st.booleans(), st.booleans(), st.integers(-20, 20), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_integers_of_computed_vectors(
    size: int, v: int, text: str, positive: bool, paper: bool, power: int, seed: int
) -> None:
    """Every integer and step as the definition has them, in onnxruntime."""
    rng = np.random.default_rng(seed)
    x = np.ldexp(rng.standard_normal((4, size)), power).astype(np.float32)
    x *= rng.random((4, size)) < 0.7
    x = np.abs(x) if positive else x
    w = rng.standard_normal((size, 2)).astype(np.float32)
    model = model_of(helper.make_node("MatMul", ["x", "w"], ["y"]), x, w)
    _, choice = choice_of(model, {"x": x}, text, v, "vector")
    made = rewritten(model, [choice], paper=paper)
    (call,) = [node for node in made.graph.node if node.domain == DOMAIN]
    element = TensorProto.INT8 if choice.data.type.signed else TensorProto.UINT8
    kinds = (TensorProto.FLOAT, element, TensorProto.FLOAT)
    made.graph.output.extend(
        helper.make_tensor_value_info(name, kind, [4, None])
        for name, kind in zip(call.output, kinds, strict=True)
    )
    _, reals, integers, steps = run(made, {"x": x})
    want = quantized(
        x, choice.data.type, choice.product.data.axes, gamma=choice.data.gamma, paper=paper
    )  # fmt: skip
    np.testing.assert_array_equal(integers, want.values)
    np.testing.assert_array_equal(reals, want.dequantized())
    np.testing.assert_array_equal(steps, want.steps())


@pytest.mark.parametrize("text", ["8/8", "4/8/6/10", "4/4/-/-"])
def test_motet_computes_the_same(text: str) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((1, 21, 6, 5)).astype(np.float32)
    w = rng.standard_normal((5, 21, 3, 3)).astype(np.float32)
    model = model_of(helper.make_node("Conv", ["x", "w"], ["y"], name="conv"), x, w)
    _, choice = choice_of(model, {"x": x}, text, 8, "channel")
    made = rewritten(model, [choice])
    (theirs,) = run(made, {"x": x})
    ours = ValueObserver(made, ["y"]).run({"x": x})["y"]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_what_is_not_chosen_stays() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 8)).astype(np.float32)
    w = rng.standard_normal((8, 8)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="one"),
        helper.make_node("MatMul", ["a", "w"], ["y"], name="two"),
    ]
    model = model_of(nodes[0], x, w)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    seen = statistics_of(model, [{"x": x}])
    one, two = products_of(model, seen.shapes)[0]
    made = rewritten(model, [chosen(two, setting("4/8/6/10", 4), seen.magnitudes)])
    assert made.graph.node[0] == nodes[0]
    assert next(init.name for init in made.graph.initializer) == "w"
    both = rewritten(
        model, [chosen(each, setting("4/8/6/10", 4), seen.magnitudes) for each in (one, two)]
    )  # fmt: skip
    names = [init.name for init in both.graph.initializer]
    assert "w" not in names
    assert names.count("w_quantized") == 1  # shared by both


def test_weights_take_their_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((1, 1024)).astype(np.float32)
    w = rng.standard_normal((1024, 1024)).astype(np.float32)
    model = model_of(helper.make_node("MatMul", ["x", "w"], ["y"]), x, w)
    _, choice = choice_of(model, {"x": x}, "4/8/4/8", 16, "vector")
    size = len(rewritten(model, [choice]).SerializeToString())
    assert size / w.size * 8 == pytest.approx(4.25, rel=0.02)


def test_weights_that_are_not_finite_are_named() -> None:
    x, w = np.ones((2, 8), np.float32), np.full((8, 8), np.nan, np.float32)
    model = model_of(helper.make_node("MatMul", ["x", "w"], ["y"], name="head"), x, w)
    with pytest.raises(CompileError, match="'head': its weights 'w' hold NaN"):
        statistics_of(model, [{"x": x}])
