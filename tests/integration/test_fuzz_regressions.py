"""What the fuzzer found, each as the smallest model that showed it, compiled and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import motet
from motet.errors import ModelError

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def info(name: str, shape: Any = None, elem: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem, shape)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    opset: int = 20,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def run(proto: onnx.ModelProto, folder: Path, **inputs: np.ndarray) -> list[np.ndarray]:
    path = folder / "found.onnx"
    path.write_bytes(proto.SerializeToString())
    (session,) = motet.load(motet.compile(path), threads=1).values()
    return session.run(None, inputs)


def agrees(proto: onnx.ModelProto, folder: Path, **inputs: np.ndarray) -> None:
    """Motet's outputs are those of onnx.reference."""
    expected = ReferenceEvaluator(proto).run(None, inputs)
    for ours, theirs in zip(run(proto, folder, **inputs), expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def refused(proto: onnx.ModelProto, folder: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        run(proto, folder)
    assert "found" in str(caught.value)


@pytest.mark.parametrize("size", [5, 6])
def test_equal_parts_of_a_symbolic_axis(tmp_path, size):
    split = helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2)
    proto = model([split], [info("x", [2, "n"])], [info("a"), info("b")])
    agrees(proto, tmp_path, x=np.arange(2.0 * size, dtype=np.float32).reshape(2, size))


def test_a_mode_that_an_operator_does_not_have(tmp_path):
    sample = helper.make_node("GridSample", ["x", "g"], ["y"], name="sample", mode="SAME_UPPER")
    inputs = [info("x", [1, 1, 4, 4, 4]), info("g", [1, 2, 2, 2, 3])]
    refused(model([sample], inputs, [info("y")]), tmp_path, "'sample' .*mode.*'SAME_UPPER'")


def test_a_negative_cap_of_attention(tmp_path):
    attention = helper.make_node("Attention", ["q", "k", "v"], ["y"], name="a", softcap=-1.0)
    inputs = [info(name, [1, 2, 4, 8]) for name in "qkv"]
    refused(model([attention], inputs, [info("y")], opset=23), tmp_path, "'a' .*softcap is -1")


@pytest.mark.parametrize("flag", [-1, 2])
def test_a_flag_that_is_neither_0_nor_1(tmp_path, flag):
    total = helper.make_node("ReduceSum", ["x"], ["y"], name="sum", keepdims=flag)
    proto = model([total], [info("x", [2, 3])], [info("y")])
    refused(proto, tmp_path, f"'sum' .*keepdims is {flag}: it is 0 or 1")


def test_no_boxes_at_all_are_suppressed_to_none(tmp_path: Path) -> None:
    names = ["boxes", "scores", "most"]
    node = helper.make_node("NonMaxSuppression", names, ["y"], name="nms")
    inputs = [info("boxes", [0, 6, 4]), info("scores", [0, 0, 6]), info("most", [1], INT64)]
    proto = model([node], inputs, [info("y", None, INT64)])
    feeds = {"boxes": np.zeros((0, 6, 4), "f4"), "scores": np.zeros((0, 0, 6), "f4")}
    [found] = run(proto, tmp_path, **feeds, most=np.array([3]))
    assert found.shape == (0, 3)


@pytest.mark.parametrize("kind", ["sequence_type", "optional_type"])
def test_a_sequence_or_optional_of_no_element_type_is_refused(tmp_path: Path, kind: str) -> None:
    given = onnx.ValueInfoProto(name="x")
    getattr(given.type, kind).elem_type.tensor_type.shape.SetInParent()
    node = helper.make_node("Identity", ["x"], ["y"], name="same")
    with pytest.raises(ModelError, match="'x' has no element type"):
        run(model([node], [given], [info("y")]), tmp_path)
