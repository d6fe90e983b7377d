"""Operators of detectors, with the uses that TVM lowers wrongly refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import constant


def non_max_suppression(node: Node) -> relax.Expr:
    """NonMaxSuppression with constant thresholds; the result has a data-dependent length."""
    names = ("max_output_boxes_per_class", "iou_threshold", "score_threshold")
    defaults = (0, 0.0, -np.inf)
    limits = [
        node.needed_constant(i + 2, name).reshape(-1)[0] if node.has(i + 2) else default
        for i, (name, default) in enumerate(zip(names, defaults, strict=True))
    ]
    boxes = _corners(node) if node.attr("center_point_box", 0) else node.x()
    result = relax.op.vision.all_class_non_max_suppression(
        boxes,
        node.x(1),
        constant(np.int64(limits[0])),
        # TVM drops a box at the threshold, ONNX only above it.
        constant(np.nextafter(np.float32(limits[1]), np.float32(np.inf))),
        constant(np.float32(limits[2])),
        output_format="onnx",
    )
    return relax.TupleGetItem(node.emit(result), 0)


def _corners(node: Node) -> relax.Expr:
    """Boxes ``[x, y, w, h]`` around their centres as ``[y1, x1, y2, x2]``."""
    parts = node.emit(relax.op.split(node.x(), 4, axis=2))
    x, y, w, h = (node.emit(relax.TupleGetItem(parts, i)) for i in range(4))
    half = node.scalar(0.5)
    w, h = node.emit(relax.op.multiply(w, half)), node.emit(relax.op.multiply(h, half))
    low = [relax.op.subtract(y, h), relax.op.subtract(x, w)]
    return node.emit(relax.op.concat([*low, relax.op.add(y, h), relax.op.add(x, w)], axis=2))


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "NonMaxSuppression": non_max_suppression,
}
