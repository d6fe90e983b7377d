"""Scales and shifts behind products, folded: nothing changes but the graph."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from motet.compiler.quantizing.folding import folded

RNG = np.random.default_rng(0)
CHANNELS = 6


def constants(rank: int) -> dict[str, np.ndarray]:
    """Parameters of a batch-norm, and constants per channel of a value of ``rank``."""
    shape = (CHANNELS, *(1,) * (rank - 2))
    return {
        "scale": RNG.standard_normal(CHANNELS), "shift": RNG.standard_normal(CHANNELS),
        "mean": RNG.standard_normal(CHANNELS), "variance": RNG.uniform(0.1, 3, CHANNELS),
        "each": RNG.standard_normal(shape), "more": RNG.standard_normal((1, *shape)),
        "one": RNG.uniform(1, 2, ()),
    }  # fmt: skip


def model_of(
    nodes: list[onnx.NodeProto],
    x: np.ndarray,
    weights: dict[str, np.ndarray],
    outputs: tuple[str, ...] = ("y",),
) -> onnx.ModelProto:
    sizes = [f"d{axis}" for axis in range(x.ndim)]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in outputs]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        values,
        [numpy_helper.from_array(np.asarray(w, np.float32), name) for name, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return list(session.run(None, {"x": x}))


def normalisation(source: str, target: str, **attributes: int) -> onnx.NodeProto:
    return helper.make_node(
        "BatchNormalization", [source, "scale", "shift", "mean", "variance"], [target], "norm",
        **attributes,
    )  # fmt: skip


def tail() -> list[onnx.NodeProto]:
    """All that can be folded, one behind another, from "a" to "y"."""
    return [
        normalisation("a", "b"),
        helper.make_node("Mul", ["each", "b"], ["c"], "times"),
        helper.make_node("Sub", ["one", "c"], ["d"], "away"),
        helper.make_node("Div", ["d", "one"], ["e"], "part"),
        helper.make_node("Add", ["e", "more"], ["y"], "plus"),
    ]


PRODUCTS = {
    "Conv": ((2, 4, 7, 7), (CHANNELS, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "ConvTranspose": ((2, 4, 5, 5), (4, CHANNELS // 2, 3, 3), {"group": 2, "strides": [2, 2]}),
    "Gemm": ((5, 8), (CHANNELS, 8), {"transB": 1}),
    "MatMul": ((5, 8), (8, CHANNELS), {}),
}


@pytest.mark.parametrize("operator", PRODUCTS)
@pytest.mark.parametrize("biased", [False, True])
def test_folded_models_compute_the_same(operator: str, biased: bool) -> None:
    shape, weights_shape, attributes = PRODUCTS[operator]
    x = RNG.standard_normal(shape).astype(np.float32)
    weights = constants(len(shape)) | {"w": RNG.standard_normal(weights_shape)}
    inputs = ["x", "w"]
    if biased and operator != "MatMul":
        weights["bias"], inputs = RNG.standard_normal(CHANNELS), ["x", "w", "bias"]
    product = helper.make_node(operator, inputs, ["a"], "product", **attributes)
    model = model_of([product, *tail()], x, weights)
    made, folds = folded(model)
    onnx.checker.check_model(made, full_check=True)
    assert folds == dict.fromkeys(("norm", "times", "away", "part", "plus"), "product")
    left = [node.op_type for node in made.graph.node]
    assert left == ([operator, "Add"] if operator == "MatMul" else [operator])
    (want,), (found,) = run(model, x), run(made, x)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


def test_a_bias_behind_a_matrix_product_stays_one_addition() -> None:
    x = RNG.standard_normal((2, 5, 8)).astype(np.float32)
    weights = {"w": RNG.standard_normal((8, CHANNELS)), "b": RNG.standard_normal(CHANNELS)}
    weights["s"] = RNG.uniform(1, 2, CHANNELS)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "product"),
        helper.make_node("Add", ["b", "a"], ["c"], "bias"),
    ]
    plain = model_of([*nodes[:1], helper.make_node("Add", ["b", "a"], ["y"])], x, weights)
    assert folded(plain) == (plain, {})
    nodes.append(helper.make_node("Mul", ["c", "s"], ["y"], "times"))
    model = model_of(nodes, x, weights)
    made, folds = folded(model)
    assert folds == {"times": "product"}
    assert [node.op_type for node in made.graph.node] == ["MatMul", "Add"]
    (want,), (found,) = run(model, x), run(made, x)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)


def kept(nodes: list[onnx.NodeProto], outputs: tuple[str, ...] = ("y",)) -> None:
    x = RNG.standard_normal((2, 4, 7, 7)).astype(np.float32)
    more = {"w": RNG.standard_normal((CHANNELS, 4, 3, 3)), "row": RNG.standard_normal(5)}
    more["wide"] = RNG.standard_normal((3, 1, CHANNELS, 1, 1))
    model = model_of([helper.make_node("Conv", ["x", "w"], ["a"]), *nodes], x,
                     constants(4) | more, outputs)  # fmt: skip
    assert folded(model) == (model, {})


def test_what_others_read_is_left() -> None:
    norm = normalisation("a", "y")
    kept([norm], ("y", "a"))  # an output of the model
    kept([norm, helper.make_node("Relu", ["a"], ["z"])], ("y", "z"))
    kept([helper.make_node("Mul", ["a", "a"], ["y"])])


def test_what_is_not_one_value_a_channel_is_left() -> None:
    kept([helper.make_node("Mul", ["a", "row"], ["y"])])  # along the last axis
    kept([helper.make_node("Mul", ["a", "wide"], ["y"])])  # one axis more
    kept([helper.make_node("Div", ["one", "a"], ["y"])])
    kept([helper.make_node("Relu", ["a"], ["b"]), normalisation("b", "y")])


def test_shared_weights_are_scaled_for_their_own_product() -> None:
    x = RNG.standard_normal((1, 4, 5, 5)).astype(np.float32)
    weights = constants(4) | {"w": RNG.standard_normal((CHANNELS, 4, 1, 1))}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "one"),
        normalisation("a", "y"),
        helper.make_node("Conv", ["x", "w"], ["z"], "other"),
    ]
    model = model_of(nodes, x, weights, ("y", "z"))
    made, folds = folded(model)
    assert folds == {"norm": "one"}
    for want, found in zip(run(model, x), run(made, x), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)
