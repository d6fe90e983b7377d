"""Inputs fixed to a value: they become constants, and errors name the inputs that need it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from motet.compiler.frontend.load import load_model
from motet.runtime.errors import SpecError, UnsupportedOperatorError, ValueNeededError


def model(
    folder: Path, nodes: Sequence[onnx.NodeProto], inputs: Sequence[tuple[str, int, Any]], rank: int
) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*given) for given in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"y{i}" for i in range(rank)])],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "m.onnx")
    return folder / "m.onnx"


X = ("x", TensorProto.FLOAT, ["n", 3, 4])
FLOAT = TensorProto.FLOAT
INT = TensorProto.INT64


@pytest.fixture
def reduction(tmp_path: Path) -> Path:
    """y = the sum of x over axes, which are an input's negatives."""
    nodes = [
        helper.make_node("Neg", ["back"], ["axes"], "negative"),
        helper.make_node("ReduceSum", ["x", "axes"], ["y"], "sum"),
    ]
    return model(tmp_path, nodes, [X, ("back", INT, [2])], 3)


def test_an_unknown_value_names_the_input_it_comes_from(reduction: Path) -> None:
    with pytest.raises(ValueNeededError, match=r"node 'sum' .*--value back=\.\.\.") as caught:
        load_model(reduction, "m")
    assert caught.value.inputs == ("back",)
    assert isinstance(caught.value, UnsupportedOperatorError)


@pytest.mark.parametrize("value", [[1, 2], np.array([1, 2]), "file"])
def test_a_fixed_input_is_no_input(reduction: Path, value: Any) -> None:
    if isinstance(value, str):
        np.save(reduction.parent / "back.npy", np.array([1, 2]))
        value = f"@{reduction.parent / 'back.npy'}"
    loaded = load_model(reduction, "m", values={"back": value})
    assert [info.name for info in loaded.inputs] == ["x"]
    assert loaded.outputs[0].shape == ("n", 1, 1)
    assert {name: list(array) for name, array in loaded.fixed.items()} == {"back": [1, 2]}


def test_a_symbol_of_a_fixed_input_takes_its_size_elsewhere(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "bias"], ["y"], "sum")]
    path = model(tmp_path, nodes, [("x", FLOAT, ["n", "m"]), ("bias", FLOAT, ["m"])], 2)
    loaded = load_model(path, "m", values={"bias": [1.5, 2.5, 3.5]})
    assert [info.shape for info in loaded.inputs] == [("n", 3)]
    inputs = [("x", FLOAT, ["n", "m"]), ("bias", FLOAT, ["m"]), ("more", FLOAT, ["m"])]
    path = model(tmp_path, nodes, inputs, 2)
    with pytest.raises(SpecError, match="dimension 'm' is 3 elsewhere, but 2 here"):
        load_model(path, "m", values={"bias": [1, 2, 3], "more": [1, 2]})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"axes": [1]}, "values.axes: the model has no input of that name; its inputs are x, back"),
        ({"back": [1, 2, 3]}, "values.back: has shape 3, the input is 2"),
        ({"back": [1.5, 2]}, "values.back: holds what int64 cannot hold"),
        ({"back": [[1], [2, 3]]}, "values.back: is no array of int64"),
        ({"back": "1,2"}, 'values.back: write numbers, or "@FILE.npy"'),
        ({"back": "@none.npy"}, "values.back: cannot read none.npy: No such file"),
    ],
)
def test_a_wrong_value(reduction: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_model(reduction, "m", values=values)
    assert f"m.onnx: {message}" in str(caught.value)


def test_a_branch_that_does_not_fit_these_inputs_asks_for_the_condition(tmp_path: Path) -> None:
    """As one of two sample rates does: the other branch's sizes do not fit."""

    def reshape(name: str, size: int) -> onnx.GraphProto:
        shape = numpy_helper.from_array(np.array([1, size]), f"s{size}")
        node = helper.make_node("Reshape", ["x", f"s{size}"], [f"y{size}"], name=name)
        output = helper.make_tensor_value_info(f"y{size}", TensorProto.FLOAT, None)
        return helper.make_graph([node], name, [], [output], [shape])

    choice = helper.make_node(
        "If", ["wide"], ["y"], name="rate",
        then_branch=reshape("wide_view", 4), else_branch=reshape("narrow_view", 3),
    )  # fmt: skip
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "width"]),
        helper.make_tensor_value_info("wide", TensorProto.BOOL, []),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([choice], "g", inputs, [output])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    shapes = {"x": [1, 4]}
    with pytest.raises(ValueNeededError, match=r"'rate'.*'narrow_view'.*--value wide") as caught:
        load_model(path, "m", shapes)
    assert caught.value.inputs == ("wide",)
    assert load_model(path, "m", shapes, {"wide": np.array(True)}).outputs[0].shape == (1, 4)
