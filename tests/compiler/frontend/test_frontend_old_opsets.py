"""Opsets 1 to 6 are converted: old broadcasting and options mean what they meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from frontend_models import load, model, run, saved, value
from onnx import ModelProto, NodeProto, helper

from motet.compiler.frontend.checks import check_model
from motet.compiler.frontend.reading import read_model
from motet.runtime.errors import ModelError, UnsupportedOperatorError

X = np.random.default_rng(0).random((2, 3, 4), np.float32)
B = np.array([1, 2, 3], np.float32)


def old(nodes: list[NodeProto], opset: int) -> ModelProto:
    """A model of X with weights b [3], as files of that time: weights are inputs too."""
    proto = model(nodes, [value("x", X.shape)], [value("y", X.shape)], {"b": B}, opset)
    proto.ir_version = 3
    proto.graph.input.append(value("b", B.shape))
    return proto


@pytest.mark.parametrize("opset", [1, 6])
def test_old_broadcasting_along_an_axis(tmp_path: Path, opset: int) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "b"], ["z"], name="scale", broadcast=1, axis=1),
        helper.make_node("Dropout", ["z"], ["y"], name="drop", is_test=1, ratio=0.9),
    ]
    found = run(load(old(nodes, opset), tmp_path), {"x": X})
    np.testing.assert_array_equal(found[0], X * B[:, None])


def test_names_survive(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["z", "b"], ["y"], name="shift", broadcast=1, axis=1),
        helper.make_node("Relu", ["x"], ["z"], name="act"),
    ]
    checked = check_model(read_model(saved(old(nodes, 6), tmp_path)), {})
    assert {"shift", "act"} <= {node.name for node in checked.graph.node}


def test_no_opset_at_all_is_opset_1(tmp_path: Path) -> None:
    proto = old([helper.make_node("Add", ["x", "b"], ["y"], broadcast=1, axis=1)], 1)
    proto.ir_version = 1
    del proto.opset_import[:]
    found = run(load(proto, tmp_path), {"x": X})
    np.testing.assert_array_equal(found[0], X + B[:, None])


def test_rules_of_one_operator_each(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Pad", ["x"], ["a"], paddings=[0, 0, 1, 0, 0, 0], mode="constant"),
        helper.make_node("Concat", ["a", "a"], ["c"]),
        helper.make_node("Reshape", ["c"], ["d"], shape=[2, 30], consumed_inputs=[0]),
        helper.make_node("Cast", ["d"], ["e"], to="INT32"),
        helper.make_node("Cast", ["d"], ["f"], to="FLOAT"),
        helper.make_node("Selu", ["f"], ["y"]),
    ]
    proto = old(nodes, 1)
    proto.graph.output[0].CopyFrom(value("y", [2, 30]))
    padded = np.pad(X - 0.5, ((0, 0), (0, 0), (1, 0)))
    want = np.concatenate([padded, padded], 1).reshape(2, 30)
    want = 1.0507 * np.where(want > 0, want, 1.6732 * (np.exp(want) - 1))
    found = run(load(proto, tmp_path), {"x": X - 0.5})
    np.testing.assert_allclose(found[0], want, rtol=1e-5, atol=1e-6)


def test_a_slope_per_channel_and_symbolic_sizes(tmp_path: Path) -> None:
    proto = old([helper.make_node("PRelu", ["x", "b"], ["y"])], 6)
    for info in (proto.graph.input[0], proto.graph.output[0]):
        info.type.tensor_type.shape.dim[2].dim_param = "n"
    loaded = load(proto, tmp_path)
    assert loaded.inputs[0].shape == (2, 3, "n")
    found = run(loaded, {"x": X - 0.5})
    np.testing.assert_allclose(found[0], np.where(X < 0.5, (X - 0.5) * B[:, None], X - 0.5), 1e-6)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (helper.make_node("ImageScaler", ["x"], ["y"], name="s", scale=2.0), "ImageScaler .*'s'"),
        (helper.make_node("Cast", ["x"], ["y"], name="c", to="FLOAT99"), "'c'.*type 'FLOAT99'"),
        (
            helper.make_node("BatchNormalization", ["x", "b", "b", "b", "b"], ["y"], name="bn"),
            r"'bn' \(BatchNormalization\) of opset 1: is in training mode",
        ),
    ],
)
def test_what_has_no_equal(tmp_path: Path, node: NodeProto, message: str) -> None:
    with pytest.raises(ModelError, match=rf"m\.onnx: .*{message}"):
        load(old([node], 1), tmp_path)


def test_a_foreign_operator_is_still_named(tmp_path: Path) -> None:
    proto = old([helper.make_node("Foo", ["x"], ["y"], name="f", domain="my.own")], 6)
    proto.opset_import.append(helper.make_opsetid("my.own", 1))
    with pytest.raises(UnsupportedOperatorError, match=r"my\.own::Foo.*'f'"):
        load(proto, tmp_path)
