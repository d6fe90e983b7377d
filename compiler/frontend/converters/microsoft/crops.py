"""CropAndResize: boxes of an image, resized to one size, as detectors of TensorFlow have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import constant, counted


def crop_and_resize(node: Node) -> relax.Expr:
    """``CropAndResize`` of ``[N, C, H, W]`` to ``[boxes, C, height, width]``.

    The corners of a box (y1, x1, y2, x2, as parts of the image less one cell) are the
    centres of its outer samples; a sample outside the image is ``extrapolation_value``.
    """
    mode = str(node.attr("mode", "bilinear"))
    if mode not in ("bilinear", "nearest"):
        node.refuse(f"mode '{mode}'")
    height, width = (int(v) for v in node.needed_constant(3, "crop_size").reshape(-1))
    extents = node.static(node.shape()[2:], "the image of CropAndResize")
    rows = _samples(node, extents[0], height, 0)
    columns = _samples(node, extents[1], width, 1)
    rows = node.emit(relax.op.reshape(rows, [-1, 1, height, 1]))
    columns = node.emit(relax.op.reshape(columns, [-1, 1, 1, width]))
    if mode == "nearest":
        result = _cells(node, _rounded(node, rows), _rounded(node, columns))
    else:
        result = _bilinear(node, rows, columns)
    inside = relax.op.logical_and(
        _inside(node, rows, extents[0]), _inside(node, columns, extents[1])
    )
    outside = node.scalar(float(node.attr("extrapolation_value", 0.0)))
    return relax.op.where(node.emit(inside), result, outside)


def _samples(node: Node, extent: int, count: int, axis: int) -> relax.Expr:
    """Places ``[boxes, count]`` on an image axis, from the boxes' edges ``axis``, ``axis + 2``."""
    edges = [
        node.emit(relax.op.strided_slice(node.x(1), [1], [i], [i + 1])) for i in (axis, axis + 2)
    ]
    if count == 1:
        middle = node.emit(relax.op.add(*edges))
        return node.emit(relax.op.multiply(middle, node.scalar(0.5 * (extent - 1))))
    low, high = (node.emit(relax.op.multiply(e, node.scalar(extent - 1))) for e in edges)
    step = relax.op.divide(node.emit(relax.op.subtract(high, low)), node.scalar(count - 1))
    places = constant(np.arange(count).astype(node.dtype())[None, :])
    return node.emit(relax.op.add(low, node.emit(relax.op.multiply(node.emit(step), places))))


def _inside(node: Node, places: relax.Expr, extent: int) -> relax.Expr:
    above = relax.op.greater_equal(places, node.scalar(0))
    return node.emit(
        relax.op.logical_and(above, relax.op.less_equal(places, node.scalar(extent - 1)))
    )


def _rounded(node: Node, places: relax.Expr) -> relax.Expr:
    """The nearest cell, halves upwards (places inside the image are not negative)."""
    return node.emit(relax.op.floor(node.emit(relax.op.add(places, node.scalar(0.5)))))


def _bilinear(node: Node, rows: relax.Expr, columns: relax.Expr) -> relax.Expr:
    top, left = (node.emit(relax.op.floor(p)) for p in (rows, columns))
    bottom, right = (node.emit(relax.op.ceil(p)) for p in (rows, columns))
    down = node.emit(relax.op.subtract(rows, top))
    across = node.emit(relax.op.subtract(columns, left))
    upper = _between(node, _cells(node, top, left), _cells(node, top, right), across)
    lower = _between(node, _cells(node, bottom, left), _cells(node, bottom, right), across)
    return _between(node, upper, lower, down)


def _between(node: Node, a: relax.Expr, b: relax.Expr, part: relax.Expr) -> relax.Expr:
    way = node.emit(relax.op.multiply(node.emit(relax.op.subtract(b, a)), part))
    return node.emit(relax.op.add(a, way))


def _cells(node: Node, rows: relax.Expr, columns: relax.Expr) -> relax.Expr:
    """The image at whole ``rows [R, 1, h, 1]`` and ``columns [R, 1, 1, w]``, of every channel."""
    _, channels, height, width = node.static([1, *node.shape()[1:]], "the image of CropAndResize")
    clipped = [
        relax.op.astype(node.emit(relax.op.clip(p, 0, extent - 1)), "int64")
        for p, extent in ((rows, height), (columns, width))
    ]
    image = node.emit(relax.op.astype(relax.op.reshape(node.x(2), [-1, 1, 1, 1]), "int64"))
    channel = node.emit(relax.op.reshape(node.emit(counted(channels)), [1, channels, 1, 1]))
    place = image
    for part, extent in zip([channel, *clipped], (channels, height, width), strict=True):
        scaled = node.emit(relax.op.multiply(place, node.scalar(extent, "int64")))
        place = node.emit(relax.op.add(scaled, node.emit(part)))
    flat = node.emit(relax.op.reshape(node.x(), [-1]))
    return node.emit(relax.op.take(flat, place, 0, mode="clip"))


CONVERTERS: dict[str, Callable[[Node], Any]] = {"CropAndResize": crop_and_resize}
