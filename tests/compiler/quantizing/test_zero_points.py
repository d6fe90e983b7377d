"""Values of lopsided range: an integer stands for 0, the same in onnxruntime and the definition."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from motet.compiler.calibration.values import ValueObserver
from motet.compiler.quantizing.choices import chosen
from motet.compiler.quantizing.figures import TensorFigures
from motet.compiler.quantizing.products import products_of
from motet.compiler.quantizing.rewriting import rewritten
from motet.compiler.quantizing.statistics import Statistics
from motet.targets.quantized.notation import setting
from motet.targets.quantized.products import convolution
from motet.targets.quantized.scales import quantized

RNG = np.random.default_rng(0)


def silu(channels: int = 6) -> np.ndarray:
    """Values as SiLU gives them, of channels that are far apart."""
    x = RNG.standard_normal((2, channels, 7, 7)) * np.geomspace(1, 30, channels)[:, None, None]
    x[:, 2] = 0
    return (x / (1 + np.exp(-x))).astype(np.float32)


def model_of(x: np.ndarray, groups: int) -> onnx.ModelProto:
    weights = RNG.standard_normal((12, x.shape[1] // groups, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups, pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 12, 7, 7])],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("text", ["8/8", "5/6"])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_the_integers_are_those_of_the_definition(groups: int, text: str) -> None:
    x = silu()
    model, seen = model_of(x, groups), Statistics()
    seen.add({"x": x})
    ((product,), _) = products_of(model, seen.shapes)
    choice = chosen(product, setting(text), seen.magnitudes, zeros=True)
    assert choice.data.zero is not None
    assert choice.data.type.granularity == ("channel" if groups == 6 else "tensor")
    data = quantized(
        x, choice.data.type, product.data.axes, gamma=choice.data.gamma, zero=choice.data.zero
    )
    want = convolution(
        data, choice.made(), strides=(1, 1), pads=(1,) * 4, dilations=(1, 1), groups=groups
    ).real()  # fmt: skip
    made = rewritten(model, [choice])
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (y,) = onnxruntime.InferenceSession(made.SerializeToString(), options).run(None, {"x": x})
    np.testing.assert_allclose(y, want, rtol=0, atol=2e-5 * np.abs(want).max())
    mine = ValueObserver(made, ["y"]).run({"x": x})["y"]
    np.testing.assert_allclose(mine, want, rtol=0, atol=2e-5 * np.abs(want).max())

    plain = chosen(product, setting(text), seen.magnitudes)
    figures = []
    for one in (plain, choice):
        found = TensorFigures(one.data.type)
        found.add(x, quantized(x, one.data.type, product.data.axes, gamma=one.data.gamma,
                               zero=one.data.zero))  # fmt: skip
        assert not found.clipped
        figures.append(found.sqnr_db)
    assert figures[1] > figures[0] + 3


def test_ranges_that_are_nearly_symmetric_or_positive_have_none() -> None:
    for x in (RNG.standard_normal((2, 6, 7, 7)), RNG.uniform(0, 1, (2, 6, 7, 7))):
        model, seen = model_of(x, 1), Statistics()
        seen.add({"x": x.astype(np.float32)})
        ((product,), _) = products_of(model, seen.shapes)
        assert chosen(product, setting("8/8"), seen.magnitudes, zeros=True).data.zero is None


def test_vectors_have_none() -> None:
    x = silu(32)
    model, seen = model_of(x, 1), Statistics()
    seen.add({"x": x})
    ((product,), _) = products_of(model, seen.shapes)
    assert chosen(product, setting("8/8/6/10"), seen.magnitudes, zeros=True).data.zero is None
