"""Operators that sample between cells, at places that the data gives: DeformConv, RoiAlign.

Both gather the four cells around every place and weigh them; what follows is a matrix
product (DeformConv) or a reduction over samples (RoiAlign).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import constant, shape_value

from .windows import window


def _const(node: Node, value: Any) -> relax.Expr:
    return constant(np.asarray(value, dtype=node.dtype()))


def deform_conv(node: Node) -> relax.Expr:
    """DeformConv (Dai et al., 2017; with a mask Zhu et al., 2019), two spatial axes.

    Every tap of the kernel reads at its own offset from its place, bilinearly, zeros
    outside; then the convolution is one matrix product per group.
    """
    if node.rank() != 4:
        node.refuse(f"{node.rank() - 2} spatial axes: only 2 are supported")
    n, channels, height, width = node.static(node.shape(), "the shape of its input")
    outs, per_group, kh, kw = node.static(node.shape(node.x(1)), "the shape of its weights")
    win = window(node, [kh, kw], [height, width])
    offsets = node.static(node.shape(node.x(2)), "the shape of its offsets")
    oh, ow, shifts = *offsets[2:], int(node.attr("offset_group", 1))
    taps = kh * kw
    y, x = _tap_places(node, win, (kh, kw), (oh, ow))
    # [n, shifts, taps, (dy, dx), oh, ow]
    given = node.emit(relax.op.reshape(node.x(2), (n, shifts, taps, 2, oh, ow)))
    parts = node.emit(relax.op.split(given, 2, axis=3))
    dy, dx = (
        node.emit(relax.op.squeeze(node.emit(relax.TupleGetItem(parts, i)), [3])) for i in (0, 1)
    )
    grid = [
        node.emit(_normalised(node, relax.op.add(place, shift), extent))
        for place, shift, extent in ((x, dx, width), (y, dy, height))
    ]
    places = node.emit(relax.op.stack(grid, 2))  # [n, shifts, (x, y), taps, oh, ow]
    places = node.emit(relax.op.reshape(places, (n * shifts, 2, taps * oh, ow)))
    data = node.emit(relax.op.reshape(node.x(), (n * shifts, channels // shifts, height, width)))
    sampled = node.emit(relax.op.image.grid_sample(data, places, "bilinear"))
    sampled = node.emit(relax.op.reshape(sampled, (n, shifts, channels // shifts, taps, oh, ow)))
    if node.has(4):
        mask = node.emit(relax.op.reshape(node.x(4), (n, shifts, 1, taps, oh, ow)))
        sampled = node.emit(relax.op.multiply(sampled, mask))
    groups = channels // per_group
    columns = node.emit(relax.op.reshape(sampled, (n, groups, per_group * taps, oh * ow)))
    rows = node.emit(relax.op.reshape(node.x(1), (groups, outs // groups, per_group * taps)))
    result = node.emit(relax.op.matmul(rows, columns))
    result = node.emit(relax.op.reshape(result, (n, outs, oh, ow)))
    if not node.has(3):
        return result
    return relax.op.add(result, node.emit(relax.op.reshape(node.x(3), (1, outs, 1, 1))))


def _tap_places(
    node: Node, win: Any, kernel: tuple[int, int], out: tuple[int, int]
) -> tuple[relax.Expr, relax.Expr]:
    """Rows and columns that the taps read without an offset, ``[taps, oh, ow]``."""
    axes = []
    for axis, (k, extent) in enumerate(zip(kernel, out, strict=True)):
        places = np.arange(extent) * win.strides[axis] - win.before[axis]
        axes.append(np.arange(k)[:, None] * win.dilations[axis] + places)
    rows, columns = axes
    shape = (*kernel, *out)
    y = np.broadcast_to(rows[:, None, :, None], shape).reshape(-1, *out)
    x = np.broadcast_to(columns[None, :, None, :], shape).reshape(-1, *out)
    return _const(node, y), _const(node, x)


def _normalised(node: Node, place: relax.Expr, extent: int) -> relax.Expr:
    """A place in cells as a grid's coordinate: -1 and 1 are the outer cells' outer edges."""
    scaled = relax.op.multiply(place, _const(node, 2.0 / extent))
    return relax.op.add(scaled, _const(node, 1.0 / extent - 1.0))


def roi_align(node: Node) -> relax.Expr:
    """RoiAlign (He et al., 2017): averages by Relax's operator, maxima gathered here.

    The maximum is, as in ONNX, of the four weighted cells of every sample, not of samples.
    """
    default = "half_pixel" if node.opset >= 16 else "output_half_pixel"
    aligned = node.attr("coordinate_transformation_mode", default) == "half_pixel"
    size = int(node.attr("output_height", 1)), int(node.attr("output_width", 1))
    ratio = int(node.attr("sampling_ratio", 0))
    if node.attr("mode", "avg") == "avg":
        return _average(node, aligned, size, ratio)
    if ratio <= 0:
        node.refuse("mode 'max' with sampling_ratio 0: samples would be as many as the data says")
    return _maximum(node, aligned, size, ratio)


def _average(node: Node, aligned: bool, size: tuple[int, int], ratio: int) -> relax.Expr:
    rois, dtype = node.x(1), node.dtype(node.x(1))
    scale = float(node.attr("spatial_scale", 1.0))
    if aligned:  # half a cell of the feature map, in the image's coordinates
        rois = node.emit(relax.op.subtract(rois, node.scalar(0.5 / scale, dtype)))
    batch = relax.op.astype(relax.op.expand_dims(node.x(2), 1), dtype)
    return relax.op.vision.roi_align(
        node.x(),
        node.emit(relax.op.concat([batch, rois], 1)),
        pooled_size=size,
        spatial_scale=scale,
        sample_ratio=ratio,
        aligned=aligned,
        layout="NCHW",
        mode="avg",
    )


def _maximum(node: Node, aligned: bool, size: tuple[int, int], ratio: int) -> relax.Expr:
    _, channels, height, width = node.shape()
    rois = node.shape(node.x(1))[0]
    last = node.emit(relax.op.permute_dims(node.x(), [0, 2, 3, 1]))
    corners = node.emit(relax.op.split(node.x(1), 4, axis=1))
    x1, y1, x2, y2 = (node.emit(relax.TupleGetItem(corners, i)) for i in range(4))
    rows = _samples(node, y1, y2, size[0], ratio, aligned, height)
    columns = _samples(node, x1, x2, size[1], ratio, aligned, width)
    batch = relax.op.astype(relax.op.reshape(node.x(2), (rois, 1, 1)), "int64")
    shape = relax.ShapeExpr([rois, size[0] * ratio, size[1] * ratio])
    best = None
    for y, wy in rows:
        for x, wx in columns:
            at = [
                node.emit(relax.op.broadcast_to(part, shape))
                for part in (batch, relax.op.expand_dims(y, 2), relax.op.expand_dims(x, 1))
            ]
            cells = relax.op.gather_nd(last, node.emit(relax.op.stack(at, 3)))
            weight = relax.op.multiply(relax.op.expand_dims(wy, 2), relax.op.expand_dims(wx, 1))
            weighed = node.emit(relax.op.multiply(cells, relax.op.expand_dims(weight, 3)))
            best = weighed if best is None else node.emit(relax.op.maximum(best, weighed))
    split = relax.ShapeExpr([rois, size[0], ratio, size[1], ratio, channels])
    pooled = node.emit(relax.op.max(node.emit(relax.op.reshape(best, split)), [2, 4]))
    return relax.op.permute_dims(pooled, [0, 3, 1, 2])


def _samples(
    node: Node, low: relax.Expr, high: relax.Expr, bins: int, ratio: int, aligned: bool, extent: Any
) -> list[tuple[relax.Expr, relax.Expr]]:
    """Along one axis the cell before and the cell after every sample, each with its weight.

    Both ``[rois, bins * ratio]``. Samples beyond a cell outside weigh nothing.
    """
    scale, shift = float(node.attr("spatial_scale", 1.0)), 0.5 if aligned else 0.0
    start = relax.op.subtract(relax.op.multiply(low, _const(node, scale)), _const(node, shift))
    end = relax.op.subtract(relax.op.multiply(high, _const(node, scale)), _const(node, shift))
    start = node.emit(start)
    length = node.emit(relax.op.subtract(end, start))
    if not aligned:  # regions of less than a cell count as one
        length = node.emit(relax.op.maximum(length, _const(node, 1.0)))
    steps = (np.arange(bins * ratio) + 0.5) / (bins * ratio)
    place = node.emit(relax.op.add(start, relax.op.multiply(length, _const(node, steps[None]))))
    limit = relax.op.astype(node.tensor(shape_value([extent], scalar=True)), node.dtype())
    last = node.emit(relax.op.subtract(limit, _const(node, 1.0)))
    outside = relax.op.logical_or(
        relax.op.less(place, _const(node, -1.0)), relax.op.greater(place, limit)
    )
    inside = node.emit(relax.op.astype(relax.op.logical_not(outside), node.dtype()))
    place = node.emit(relax.op.minimum(relax.op.maximum(place, _const(node, 0.0)), last))
    before = node.emit(relax.op.floor(place))
    after = node.emit(relax.op.minimum(relax.op.add(before, _const(node, 1.0)), last))
    share = node.emit(relax.op.subtract(place, before))
    rest = relax.op.subtract(_const(node, 1.0), share)
    return [
        (
            node.emit(relax.op.astype(cell, "int64")),
            node.emit(relax.op.multiply(weight, inside)),
        )
        for cell, weight in ((before, rest), (after, share))
    ]


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "DeformConv": deform_conv,
    "RoiAlign": roi_align,
}
