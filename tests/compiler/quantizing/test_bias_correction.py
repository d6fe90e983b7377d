"""Columns that a product sums over, and biases that make its mean right."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from motet.compiler.quantizing.choices import chosen
from motet.compiler.quantizing.columns import columns_of
from motet.compiler.quantizing.products import products_of
from motet.compiler.quantizing.refining import Inputs, Refinement, refined, with_biases
from motet.compiler.quantizing.rewriting import rewritten
from motet.compiler.quantizing.statistics import Statistics
from motet.targets.quantized.notation import setting

RNG = np.random.default_rng(0)

PRODUCTS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "strided": ("Conv", (2, 6, 9, 8), (8, 6, 3, 2),
                {"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}),
    "grouped": ("Conv", (2, 6, 7, 7), (8, 3, 3, 3), {"group": 2, "auto_pad": "SAME_UPPER"}),
    "lower": ("Conv", (1, 4, 8), (6, 4, 4), {"auto_pad": "SAME_LOWER", "strides": [3]}),
    "depthwise": ("Conv", (3, 6, 7, 7), (12, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
    "gemm": ("Gemm", (9, 5), (7, 9), {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    "plain": ("Gemm", (5, 9), (9, 7), {}),
    "matmul": ("MatMul", (2, 5, 9), (9, 7), {}),
}  # fmt: skip


def model_of(
    name: str, bias: str, behind: bool = False
) -> tuple[onnx.ModelProto, list[dict[str, np.ndarray]]]:
    """A product with a bias that is "none", "constant" or "computed", and runs of it."""
    operator, shape, weights, attributes = PRODUCTS[name]
    stored = {"w": RNG.standard_normal(weights).astype(np.float32)}
    outputs = weights[0] if operator == "Conv" or attributes.get("transB") else weights[-1]
    stored["b"] = RNG.standard_normal(outputs).astype(np.float32)
    given = {"none": [], "constant": ["b"], "computed": ["c"]}[bias]
    nodes = [
        helper.make_node("Abs", ["b"], ["c"]),
        helper.make_node(operator, ["x", "w", *given], ["a" if behind else "y"], "p", **attributes),
    ]
    if behind:
        nodes.append(helper.make_node("Add", ["b", "a"], ["y"], "bias"))
    sizes = [f"d{axis}" for axis in range(len(shape))]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, sizes)],
        [numpy_helper.from_array(array, key) for key, array in stored.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    runs = [{"x": (RNG.standard_normal(shape) + 1).astype(np.float32)} for _ in range(3)]
    return model, runs


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (y,) = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, inputs)
    return np.asarray(y)


@pytest.mark.parametrize("name", PRODUCTS)
def test_weights_by_columns_are_the_product(name: str) -> None:
    model, runs = model_of(name, "none")
    ((product,), _), x = products_of(model, {"x": runs[0]["x"].shape}), runs[0]["x"]
    columns = columns_of(product, model.graph.node[product.place])
    weights = product.weights.values
    assert columns is not None
    assert weights is not None
    np.testing.assert_array_equal(columns.stored(columns.matrices(weights), weights.shape), weights)
    count = 10**6  # more than there are: all, in order
    sample = columns.sample(x, count, np.random.default_rng(0))
    found = columns.matrices(weights) @ sample
    y = run(model, runs[0]) / PRODUCTS[name][3].get("alpha", 1)
    rows = y.reshape(-1, y.shape[-1]).T if product.operator != "Conv" else np.moveaxis(y, 1, 0)
    np.testing.assert_allclose(found.reshape(rows.shape[0], -1), rows.reshape(rows.shape[0], -1),
                               rtol=1e-4, atol=1e-4)  # fmt: skip
    total, number = columns.summed(x)
    assert number == sample.shape[-1]
    np.testing.assert_allclose(total, sample.sum(-1, dtype=np.float64), rtol=1e-4, atol=1e-3)
    assert columns.sample(x, 4, np.random.default_rng(0)).shape[-1] == min(4, number)


CASES = [
    *((name, "none", False) for name in PRODUCTS),
    *((name, bias, False) for name in ("grouped", "gemm") for bias in ("constant", "computed")),
    ("matmul", "none", True),
]


@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
@pytest.mark.parametrize(("name", "bias", "behind"), CASES)
def test_the_mean_of_every_output_channel_is_right(
    name: str, bias: str, behind: bool, rounding: Any
) -> None:
    model, runs = model_of(name, bias, behind)
    seen = Statistics()
    for inputs in runs:
        seen.add(inputs)
    (product,), _ = products_of(model, seen.shapes)
    inputs = Inputs(model, [product], with_gram=True)
    for each in runs:
        inputs.add(each)
    text = "3/3/4/4" if name in ("plain", "strided") else "3/3"
    wanted = setting(text, 4, "vector" if "/4/4" in text else "channel")
    choice = chosen(product, wanted, seen.magnitudes, zeros=True)

    def shift(how: Refinement) -> np.ndarray:
        made = rewritten(model, refined([choice], inputs, iter(runs), how))
        if behind:
            assert [n.op_type for n in made.graph.node].count("Add") == 1  # the one there was
        lost = np.stack([run(made, each) - run(model, each) for each in runs])
        axis = 2 if product.operator == "Conv" else lost.ndim - 1
        rest = tuple(other for other in range(lost.ndim) if other != axis)
        return np.abs(lost.mean(axis=rest, dtype=np.float64)).max()

    plain = shift(Refinement(rounding, bias=False))
    corrected = shift(Refinement(rounding, bias=True))
    assert corrected < 2e-5 < 0.01 < plain


def test_sizes_are_known_without_the_data() -> None:
    model, runs = model_of("depthwise", "none")
    seen = Statistics()
    seen.add(runs[0])
    (product,), _ = products_of(model, seen.shapes)
    inputs = Inputs(model, [product], with_gram=False)
    inputs.add(runs[0])
    choices = [chosen(product, setting("4/8"), seen.magnitudes)]
    made = rewritten(model, refined(choices, inputs, iter(runs[:1]), Refinement()))
    assert made.ByteSize() == rewritten(model, with_biases(choices)).ByteSize()
