"""NonMaxSuppression: the boxes of each class that overlap no better one of their class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax, tirx

from motet.compiler.frontend import late
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import product
from motet.compiler.frontend.values import Constant, Dim, constant
from motet.targets.operators import selection


def non_max_suppression(node: Node) -> Any:
    """NonMaxSuppression; all thresholds may be known at run time only.

    The kernel writes into room for as many rows as there can be; the first ``count`` of
    them are the result.
    """
    boxes, scores = node.x(), node.x(1)
    batch, classes, number = node.shape(scores)
    most = node.constant(2) if node.has(2) else np.zeros(1, np.int64)
    each = number if most is None else _least(int(most.reshape(-1)[0]), number)
    if isinstance(each, int) and each == 0:
        return Constant(np.zeros((0, 3), np.int64))
    if node.attr("center_point_box", 0):
        boxes = _corners(node, boxes)
    thresholds = [
        _threshold(node, 2, "int64", 0.0),
        _threshold(node, 3, "float32", 0.0),
        _threshold(node, 4, "float32", -np.inf),
    ]
    found = selection.nms([boxes, scores, *thresholds], product([batch, classes, each]))
    both = node.emit(found)
    rows, count = (node.emit(relax.TupleGetItem(both, k)) for k in range(2))
    (extent,) = late.bind(node, count, ["count"])
    return late.first(node, rows, extent)


def _least(most: int, number: Dim) -> Dim:
    """Boxes that a class can keep."""
    if isinstance(number, int):
        return min(max(most, 0), number)
    return tirx.min(tirx.const(max(most, 0), "int64"), number) if most > 0 else 0


def _threshold(node: Node, index: int, dtype: str, default: float) -> relax.Expr:
    """An optional input of one element, as a vector of ``dtype``."""
    if not node.has(index):
        return constant(np.full(1, default, dtype))
    array = node.constant(index)
    if array is not None:
        return constant(array.reshape(-1)[:1].astype(dtype))
    x = node.x(index)
    if node.dtype(x) != dtype:
        x = node.emit(relax.op.astype(x, dtype))
    return x if node.rank(x) == 1 else node.emit(relax.op.reshape(x, [1]))


def _corners(node: Node, boxes: relax.Expr) -> relax.Expr:
    """Boxes ``[x, y, w, h]`` around their centres as ``[y1, x1, y2, x2]``."""
    parts = node.emit(relax.op.split(boxes, 4, axis=2))
    x, y, w, h = (node.emit(relax.TupleGetItem(parts, i)) for i in range(4))
    half = node.scalar(0.5)
    w, h = node.emit(relax.op.multiply(w, half)), node.emit(relax.op.multiply(h, half))
    low = [relax.op.subtract(y, h), relax.op.subtract(x, w)]
    corners = [*low, relax.op.add(y, h), relax.op.add(x, w)]
    return node.emit(relax.op.concat([node.emit(c) for c in corners], axis=2))


CONVERTERS: dict[str, Callable[[Node], Any]] = {"NonMaxSuppression": non_max_suppression}
