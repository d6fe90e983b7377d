"""Convolutions in ONNX's NCHW layout, of one to three spatial axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.completion import cast_to
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import Constant, Dim, constant

from .windows import window, with_known_type

LAYOUTS = {1: ("NCW", "W"), 2: ("NCHW", "HW"), 3: ("NCDHW", "DHW")}


def _spatial(node: Node) -> int:
    rank = node.rank() - 2
    if rank not in LAYOUTS:
        node.refuse(f"{rank} spatial axes: only 1, 2 and 3 are supported")
    return rank


def _kernel(node: Node, rank: int) -> list[int]:
    weight = node.static(node.shape(node.x(1)), "the shape of the weight")
    kernel = list(node.attr("kernel_shape") or weight[2:])
    if kernel != weight[2:]:
        node.refuse(f"kernel_shape {kernel} contradicts the weight's shape {weight}")
    if len(kernel) != rank:
        node.refuse(f"a weight of rank {len(weight)} for an input of rank {rank + 2}")
    return kernel


def _with_bias(node: Node, result: relax.Expr, rank: int) -> relax.Expr:
    if not node.has(2):
        return result
    array, shape = node.constant(2), [1, -1] + [1] * rank
    if array is not None:
        return relax.op.add(node.emit(result), Constant(array.reshape(shape)).tensor())
    channels = node.shape(node.x(2))[0]
    bias = relax.op.reshape(node.x(2), [1, channels] + [1] * rank)
    return relax.op.add(node.emit(result), bias)


def _with_channels(node: Node, channels: Dim) -> relax.Expr:
    """The input with as many channels as the weight has, where they are symbolic."""
    batch, own, *spatial = node.shape()
    if isinstance(own, int):
        return node.x()
    return cast_to(node, node.x(), [batch, channels, *spatial])


def conv(node: Node) -> relax.Expr:
    """Conv, and its bias as a separate addition."""
    rank = _spatial(node)
    win = window(node, _kernel(node, rank), list(node.shape()[2:]))
    layout, axes = LAYOUTS[rank]
    operator = getattr(relax.op.nn, f"conv{rank}d")
    group = int(node.attr("group", 1))
    result = operator(
        _with_channels(node, group * node.shape(node.x(1))[1]),
        node.x(1),
        strides=win.strides,
        padding=win.padding,
        dilation=win.dilations,
        groups=group,
        data_layout=layout,
        kernel_layout="OI" + axes,
    )
    if _fits(node, group):
        result = with_known_type(node, result, node.shape(node.x(1))[0], win)
    return _with_bias(node, result, rank)


def _fits(node: Node, group: int) -> bool:
    """Whether input and weight are of one type, and their channels known and right."""
    data, weight = node.x(), node.x(1)
    channels, (out, each) = node.shape()[1], node.shape(weight)[:2]
    if not all(isinstance(size, int) for size in (channels, out, each)):
        return False
    return bool(data.ty.dtype == weight.ty.dtype and channels == group * each and out % group == 0)


def conv_transpose(node: Node) -> relax.Expr:
    """ConvTranspose; ``output_shape`` and ``auto_pad`` are turned into pads as ONNX says."""
    rank = _spatial(node)
    kernel = _kernel(node, rank)
    strides = list(node.attr("strides") or [1] * rank)
    dilations = list(node.attr("dilations") or [1] * rank)
    extra = list(node.attr("output_padding") or [0] * rank)
    before, after = _transposed_pads(node, kernel, strides, dilations, extra)
    result = _transposed(node, strides, dilations, before, after, extra, rank)
    return _with_bias(node, result, rank)


def _transposed(
    node: Node,
    strides: list[int],
    dilations: list[int],
    before: list[int],
    after: list[int],
    extra: list[int],
    rank: int,
) -> relax.Expr:
    layout, axes = LAYOUTS[rank]
    operator = getattr(relax.op.nn, f"conv{rank}d_transpose")
    return operator(
        _with_channels(node, node.shape(node.x(1))[0]),
        node.x(1),
        strides=strides,
        padding=[*before, *after],
        output_padding=extra,
        dilation=dilations,
        groups=int(node.attr("group", 1)),
        data_layout=layout,
        kernel_layout="IO" + axes,
    )


def _transposed_pads(
    node: Node, kernel: list[int], strides: list[int], dilations: list[int], extra: list[int]
) -> tuple[list[int], list[int]]:
    rank, mode = len(kernel), node.attr("auto_pad", "NOTSET")
    asked = node.attr("output_shape")
    if asked is None and mode not in ("SAME_UPPER", "SAME_LOWER"):
        pads = list(node.attr("pads") or [0] * (2 * rank)) if mode == "NOTSET" else [0] * (2 * rank)
        return pads[:rank], pads[rank:]
    before, after = [], []
    for i in range(rank):
        total = (kernel[i] - 1) * dilations[i] + 1 + extra[i] - strides[i]
        if asked is not None:
            extent = node.static([node.shape()[2 + i]], "a size with output_shape")[0]
            total += strides[i] * extent - list(asked)[-rank:][i]
        if total < 0:  # the output reaches beyond the last product: zeros at the end
            extra[i], total = extra[i] - total, 0
        if extra[i] >= strides[i] and extra[i] >= dilations[i]:
            node.refuse(f"output_shape {asked} is larger than the convolution reaches")
        half = total // 2
        # ONNX: the odd cell goes to the end for SAME_UPPER, else to the start.
        first = half if mode == "SAME_UPPER" else total - half
        before.append(first)
        after.append(total - first)
    return before, after


def col2im(node: Node) -> relax.Expr:
    """Col2Im: every column adds its block to the image, as the transposed convolution of
    columns as channels with the identity does.
    """
    image = [int(v) for v in node.needed_constant(1, "image_shape").reshape(-1)]
    block = [int(v) for v in node.needed_constant(2, "block_shape").reshape(-1)]
    rank, cells = len(block), int(np.prod(block))
    if rank not in LAYOUTS:
        node.refuse(f"an image of {rank} axes")
    strides = list(node.attr("strides") or [1] * rank)
    dilations = list(node.attr("dilations") or [1] * rank)
    pads = list(node.attr("pads") or [0] * (2 * rank))
    reach = [(k - 1) * d + 1 for k, d in zip(block, dilations, strict=True)]
    room = [v + pads[i] + pads[rank + i] - reach[i] for i, v in enumerate(image)]
    steps = [r // s + 1 for r, s in zip(room, strides, strict=True)]
    batch, columns, _ = node.shape()
    channels = node.static([columns], "the number of columns")[0] // cells
    x = relax.op.reshape(node.x(), relax.ShapeExpr([batch, columns, *steps]))
    identity = np.eye(cells, dtype=node.dtype()).reshape(cells, 1, *block)
    layout, axes = LAYOUTS[rank]
    operator = getattr(relax.op.nn, f"conv{rank}d_transpose")
    return operator(
        node.emit(x),
        constant(np.tile(identity, (channels, *[1] * (rank + 1)))),
        strides=strides,
        padding=pads,
        output_padding=[r % s for r, s in zip(room, strides, strict=True)],
        dilation=dilations,
        groups=channels,
        data_layout=layout,
        kernel_layout="IO" + axes,
    )


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Col2Im": col2im,
}
