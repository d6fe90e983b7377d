"""Selections whose extent a symbol gives: positions of what is true, top-k, boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kernel_runner import Array, run_unit
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnxruntime import InferenceSession

from motet.targets.operators import selection

RNG = np.random.default_rng(3)
EMPTY: list[int | str] = ["n", 0]


def carrier(count: int) -> Array:
    return np.zeros((count, 0), bool)


@pytest.mark.parametrize(
    "x",
    [
        RNG.standard_normal((4, 5, 3)) > 0.5,
        RNG.standard_normal(40) > -1,
        np.ones((3, 1, 2), bool),
    ],
    ids=lambda x: str(x.shape),
)
def test_positions_of_what_is_true(x: Array, tmp_path: Path) -> None:
    want = np.stack(np.nonzero(x)).astype(np.int64)
    (got,) = run_unit(
        tmp_path,
        lambda a, n: selection.nonzero(a, n.ty.shape.values[0]),
        [x, carrier(want.shape[1])],
        [want],
        shapes=[x.shape, EMPTY],
    )
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("axis", "largest", "count"), [(0, True, 3), (1, False, 6), (1, True, 1)])
def test_the_best_of_a_run_time_number(
    axis: int, largest: bool, count: int, tmp_path: Path
) -> None:
    x = RNG.integers(0, 9, (5, 6)).astype(np.float32)
    order = np.argsort(-x if largest else x, axis, kind="stable").take(range(count), axis)
    values, indices = run_unit(
        tmp_path,
        lambda a, n: selection.topk(a, n.ty.shape.values[0], axis, largest),
        [x, carrier(count)],
        [np.take_along_axis(x, order, axis), order],
        shapes=[x.shape, EMPTY],
    )
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(values, np.take_along_axis(x, order, axis))


def suppressed(boxes: Array, scores: Array, most: int, overlap: float, least: float) -> Array:
    """What onnxruntime selects."""
    infos = [
        make_tensor_value_info("boxes", TensorProto.FLOAT, boxes.shape),
        make_tensor_value_info("scores", TensorProto.FLOAT, scores.shape),
        make_tensor_value_info("most", TensorProto.INT64, [1]),
        make_tensor_value_info("overlap", TensorProto.FLOAT, [1]),
        make_tensor_value_info("least", TensorProto.FLOAT, [1]),
    ]
    node = make_node("NonMaxSuppression", [info.name for info in infos], ["y"])
    output = make_tensor_value_info("y", TensorProto.INT64, [None, 3])
    graph = make_graph([node], "g", infos, [output])
    model = make_model(graph, opset_imports=[make_opsetid("", 11)], ir_version=8)
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"boxes": boxes, "scores": scores, **thresholds(most, overlap, least)}
    result: Array = session.run(None, feeds)[0]
    return result


def thresholds(most: int, overlap: float, least: float) -> dict[str, Array]:
    return {
        "most": np.array([most], np.int64),
        "overlap": np.array([overlap], np.float32),
        "least": np.array([least], np.float32),
    }


def random_boxes(images: int, number: int) -> Array:
    """Corners in any order, some boxes twice, some without an area."""
    boxes = RNG.random((images, number, 4)).astype(np.float32)
    boxes[:, 1::5] = boxes[:, ::5][:, : boxes[:, 1::5].shape[1]]
    boxes[:, 3::7, 2] = boxes[:, 3::7, 0]
    return boxes


@pytest.mark.parametrize(
    ("most", "overlap", "least"),
    [(3, 0.5, 0.0), (50, 0.1, 0.3), (50, 0.0, -1.0), (0, 0.5, 0.0), (5, 1.0, 2.0), (7, 0.4, 0.6)],
)
def test_boxes_that_onnxruntime_selects(
    most: int, overlap: float, least: float, tmp_path: Path
) -> None:
    boxes = random_boxes(2, 40)
    scores = RNG.integers(0, 12, (2, 3, 40)).astype(np.float32) / 12  # many are equal
    limit = 2 * 3 * min(most, 40)
    rows, count = run_unit(
        tmp_path,
        lambda b, s, m, o, t, n: selection.nms([b, s, m, o, t], n.ty.shape.values[0]),
        [boxes, scores, *thresholds(most, overlap, least).values(), carrier(limit)],
        [np.zeros((limit, 3), np.int64), np.zeros(1, np.int64)],
        shapes=[boxes.shape, scores.shape, [1], [1], [1], EMPTY],
    )
    want = suppressed(boxes, scores, most, overlap, least)
    assert count.tolist() == [len(want)]
    np.testing.assert_array_equal(rows[: len(want)], want)
