"""Blocked layouts at the edges: weights that are inputs, empty batches, no other formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import motet

_RNG = np.random.default_rng(0)
_PADDED = {"pads": [1, 1, 1, 1]}


def _values(*shape: int) -> NDArray[np.float32]:
    return _RNG.normal(0, 1 / np.sqrt(np.prod(shape[1:]) or 1), shape).astype(np.float32)


def _saved(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    weights: dict[str, NDArray[np.float32]],
) -> Path:
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def _assert_agrees(path: Path, feeds: list[dict[str, NDArray[np.float32]]]) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    program = motet.load(motet.compile(path))
    for inputs in feeds:
        (expected,) = session.run(None, inputs)
        np.testing.assert_allclose(
            program.run(path.stem, inputs)["y"], expected, rtol=1e-4, atol=1e-5
        )


def test_weights_that_are_inputs(tmp_path: Path) -> None:
    """They are packed at run time."""
    feeds = {
        "x": _values(2, 3, 9, 9), "stem": _values(16, 3, 3, 3),
        "body": _values(16, 16, 3, 3), "depthwise": _values(16, 1, 3, 3),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["a"], **_PADDED),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "body"], ["c"], **_PADDED),
        helper.make_node("Conv", ["c", "depthwise"], ["y"], group=16, **_PADDED),
    ]
    inputs: dict[str, list[int | str]] = {name: [*v.shape] for name, v in feeds.items()}
    _assert_agrees(_saved(tmp_path / "net.onnx", nodes, inputs, {}), [feeds])


@pytest.mark.parametrize("batch", ["batch", 0])
def test_empty_batches(batch: int | str, tmp_path: Path) -> None:
    weights = {"stem": _values(16, 3, 3, 3), "body": _values(16, 16, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["a"], **_PADDED),
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[3, 3], strides=[2, 2], **_PADDED),
        helper.make_node("Conv", ["b", "body"], ["c"], **_PADDED),
        helper.make_node("GlobalAveragePool", ["c"], ["y"]),
    ]
    path = _saved(tmp_path / "net.onnx", nodes, {"x": [batch, 3, 9, 9]}, weights)
    sizes = [0] if batch == 0 else [0, 1, 8, 0]
    _assert_agrees(path, [{"x": _values(n, 3, 9, 9)} for n in sizes])


def test_without_reassociation_weights_are_not_transformed(tmp_path: Path) -> None:
    """Winograd's weights are larger than a convolution's own: it is not there."""
    own = _values(64, 64, 3, 3)
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["y"], **_PADDED),
    ]
    weights = {"first": _values(64, 8, 1, 1), "w": own}
    path = _saved(tmp_path / "net.onnx", nodes, {"x": [1, 8, 56, 56]}, weights)

    def size(reassociate: str) -> int:
        bundle = motet.compile(
            path, settings=[f"host.reassociate={reassociate}", "passes.merge_depth.enabled=false"]
        )
        bundle.save(tmp_path / "net.motet")
        return (tmp_path / "net.motet").stat().st_size

    assert size("true") - size("false") > own.nbytes / 2
