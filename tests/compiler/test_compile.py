"""Specification to bundle: what the bundle records, wires, and errors over several models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import motet
from motet import BundleSpec, ModelSpec
from motet.errors import SpecError, UnsupportedOperatorError


def write(path: Path, op: str, shape: tuple[int | str, ...] = (2, 3), **attributes: object) -> Path:
    """A model of one node, named after its operator: ``x`` in, ``y`` out."""
    node = helper.make_node(op, ["x"], ["y"], name=f"the_{op.lower()}", **attributes)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "xy")
    graph = helper.make_graph([node], "g", [x], [y])
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("my.own", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def test_models_are_recorded_in_the_order_in_which_they_run(tmp_path):
    relu, neg = write(tmp_path / "relu.onnx", "Relu"), write(tmp_path / "neg.onnx", "Neg")
    spec = BundleSpec(
        name="two",
        models=(
            ModelSpec(path=str(relu), name="second", inputs={"x": "first.y"}, rate_hz=30.0),
            ModelSpec(path=str(neg), name="first", priority=3, deadline_ms=5.0),
        ),
    )
    bundle = motet.compile(spec)
    first, second = bundle.manifest.models
    assert (first.name, first.priority, first.deadline_ms) == ("first", 3, 5.0)
    assert (second.name, second.wires, second.rate_hz) == ("second", {"x": "first.y"}, 30.0)
    data = np.array([[-1, 2, -3], [4, -5, 6]], np.float32)
    results = motet.load(bundle).run_all({"first": {"x": data}})
    np.testing.assert_array_equal(results["second"]["y"], np.maximum(-data, 0))


def test_one_error_lists_the_missing_operators_of_all_models(tmp_path):
    paths = [
        write(tmp_path / "a.onnx", "Noise", domain="my.own"),
        write(tmp_path / "b.onnx", "Echo", domain="my.own"),
    ]
    with pytest.raises(UnsupportedOperatorError) as caught:
        motet.compile(paths)
    for text in (
        "a.onnx",
        "my.own::Noise",
        "b.onnx",
        "my.own::Echo",
        "the_echo",
    ):
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ({"x": "first.nope"}, "models.second.inputs.x: first has no output 'nope'; it has y"),
        ({"nope": "first.y"}, "models.second.inputs.nope: second has no input 'nope'; it has x"),
        ({"x": "first.y"}, r"first.y is float32 2 x 3, the input takes float32 4 x 3"),
    ],
)
def test_wires_that_do_not_fit(tmp_path, wire, message):
    one = write(tmp_path / "one.onnx", "Relu")
    other = write(tmp_path / "other.onnx", "Relu", (4, 3))
    spec = BundleSpec(
        models=(
            ModelSpec(path=str(one), name="first"),
            ModelSpec(path=str(other), name="second", inputs=wire),
        )
    )
    with pytest.raises(SpecError, match=message):
        motet.compile(spec)


def test_what_sharing_saved_is_on_record(tmp_path):
    path = write(tmp_path / "relu.onnx", "Relu")
    spec = BundleSpec(
        models=(ModelSpec(path=str(path), name="a"), ModelSpec(path=str(path), name="b"))
    )
    (record,) = (r for r in motet.compile(spec).manifest.passes if r.name == "share")
    assert record.summary.startswith("2 units -> 1 kernels")
