"""``motet.backend``: an onnx backend, which specialises a model on a call's values."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import motet.backend
from motet.errors import InputError, UnsupportedOperatorError, ValueNeededError

X = np.random.default_rng(0).random((3, 4), np.float32)


def model_of(nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*info) for info in inputs],
        [helper.make_tensor_value_info(*info) for info in outputs],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


@pytest.fixture
def total() -> onnx.ModelProto:
    """y = the sum of x over axes, and z = -x."""
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["y"]),
        helper.make_node("Neg", ["x"], ["z"]),
    ]
    inputs = [("x", FLOAT, [3, 4]), ("axes", INT, ["n"])]
    return model_of(nodes, inputs, [("y", FLOAT, ["a", "b"]), ("z", FLOAT, [3, 4])])


def test_a_model_is_specialised_to_the_values_of_the_call(total: onnx.ModelProto) -> None:
    rep = motet.backend.prepare(total)
    assert rep.inputs == ("x", "axes")
    for axes in ([0], [1], [0, 1], [0]):
        y, z = rep.run([X, np.array(axes)])
        np.testing.assert_allclose(y, X.sum(tuple(axes), keepdims=True), rtol=1e-6)
        np.testing.assert_array_equal(z, -X)
        assert rep.fixed == ("axes",)


def test_inputs_by_name_and_too_many(total: onnx.ModelProto) -> None:
    rep = motet.backend.prepare(total)
    y, _ = rep.run({"axes": np.array([0]), "x": X})
    assert y.shape == (1, 4)
    with pytest.raises(InputError, match="3 inputs given, the model has 2: x, axes"):
        rep.run([X, np.array([0]), X])


def test_nothing_is_fixed_without_need() -> None:
    nodes = [helper.make_node("Add", ["x", "k"], ["y"])]
    inputs = [("x", INT, ["n"]), ("k", INT, [])]
    rep = motet.backend.prepare(model_of(nodes, inputs, [("y", INT, ["n"])]))
    (y,) = rep.run([np.array([1, 2]), np.array(3)])
    np.testing.assert_array_equal(y, [4, 5])
    assert rep.fixed == ()


def test_float_data_is_never_fixed() -> None:
    """The shape of a Resize out of data: a matrix stays a matrix of the run."""
    nodes = [
        helper.make_node("Cast", ["data"], ["sizes"], to=INT),
        helper.make_node("ReduceSum", ["x", "sizes"], ["y"]),
    ]
    inputs = [("x", FLOAT, [3, 4]), ("data", FLOAT, [1, 1])]
    nodes.insert(0, helper.make_node("Flatten", ["data"], ["flat"]))
    nodes[1].input[0] = "flat"
    nodes.insert(2, helper.make_node("Squeeze", ["sizes", "zero"], ["axes"]))
    nodes[3].input[1] = "axes"
    nodes.insert(0, helper.make_node("Constant", [], ["zero"], value_ints=[0]))
    rep = motet.backend.prepare(model_of(nodes, inputs, [("y", FLOAT, ["a", "b"])]))
    with pytest.raises(ValueNeededError, match="it depends on the data of input 'data'"):
        rep.run([X, np.ones((1, 1), np.float32)])
    assert rep.fixed == ()


def test_one_node() -> None:
    node = helper.make_node("Softmax", ["x"], ["y"], axis=0)
    (y,) = motet.backend.run_node(node, [X])
    np.testing.assert_allclose(y.sum(0), np.ones(4), rtol=1e-6)
    (z,) = motet.backend.run_node(node, [X], outputs_info=[(np.float32, X.shape)], opset_version=13)
    np.testing.assert_array_equal(y, z)


def test_devices_and_operators(total: onnx.ModelProto) -> None:
    assert motet.backend.supports_device("CPU")
    assert not motet.backend.supports_device("CUDA:1")
    assert not motet.backend.supports_device("ABACUS")
    assert motet.backend.is_compatible(total)
    total.graph.node[1].op_type = "Nothing"
    assert not motet.backend.is_compatible(total)
    with pytest.raises(UnsupportedOperatorError, match="Nothing"):
        motet.backend.prepare(total)


def test_lists_and_optionals_are_those_of_the_call():
    """Every call of another length is compiled anew; None is an optional without a value."""
    model = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["" : 17]>
    m (seq(float[n]) many, optional(float[2]) maybe) => (seq(float[n]) more, bool there) {
        one = Constant<value = float[1] {1}>()
        more = SequenceInsert(many, one)
        there = OptionalHasElement(maybe)
    }
    """)
    rep = motet.backend.prepare(model)
    a, b, one = np.ones(2, np.float32), np.ones(3, np.float32), np.ones(1, np.float32)
    for many, maybe in (([a, b], a), ([], None)):
        more, there = rep.run([many, maybe])
        assert [x.tolist() for x in more] == [x.tolist() for x in (*many, one)]
        assert there == (maybe is not None)


def test_a_shape_of_the_run_shorter_than_the_rank() -> None:
    nodes = [helper.make_node("Expand", ["x", "shape"], ["y"])]
    inputs = [("x", FLOAT, [1, 3, 1]), ("shape", INT, [2])]
    rep = motet.backend.prepare(model_of(nodes, inputs, [("y", FLOAT, [1, 3, "n"])]))
    for shape in ([3, 4], [1, 5], [1, 1]):
        x = np.random.default_rng(1).random((1, 3, 1), np.float32)
        (y,) = rep.run([x, np.array(shape)])
        np.testing.assert_array_equal(y, x * np.ones(shape, np.float32))
