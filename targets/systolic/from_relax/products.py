"""Convolutions, transposed ones, and matrix products as layers of the array."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm import relax

from motet.targets.systolic.from_relax.anchor import Anchor
from motet.targets.systolic.from_relax.integers import WORDS
from motet.targets.systolic.from_relax.values import (
    RefusedError,
    four,
    ints,
    pair,
    require_layouts,
    shape_of,
    two,
)
from motet.targets.systolic.workload.layers import (
    Convolution,
    MatrixProduct,
    TransposedConvolution,
)


def convolution_2d(call: relax.Call) -> Anchor:
    """A 2-D convolution, NCHW and OIHW."""
    attrs = call.attrs
    require_layouts(attrs, "NCHW", "OIHW")
    batch, channels, height, width = shape_of(call.args[0], WORDS)
    out_channels, _, *kernel = shape_of(call.args[1], WORDS)
    layer = Convolution(
        batch=batch,
        in_channels=channels,
        out_channels=out_channels,
        groups=int(attrs.groups),
        in_height=height,
        in_width=width,
        kernel=(kernel[0], kernel[1]),
        stride=pair(attrs.strides),
        padding=four(attrs.padding),
        dilation=pair(attrs.dilation),
    )
    return Anchor(layer, (0, 1))


def convolution_1d(call: relax.Call) -> Anchor:
    """A 1-D convolution is one of height 1."""
    attrs = call.attrs
    require_layouts(attrs, "NCW", "OIW")
    batch, channels, width = shape_of(call.args[0], WORDS)
    out_channels, _, kernel = shape_of(call.args[1], WORDS)
    layer = Convolution(
        batch=batch,
        in_channels=channels,
        out_channels=out_channels,
        groups=int(attrs.groups),
        in_height=1,
        in_width=width,
        kernel=(1, kernel),
        stride=(1, ints(attrs.strides)[0]),
        padding=two(attrs.padding),
        dilation=(1, ints(attrs.dilation)[0]),
    )
    return Anchor(layer, (0, 1))


def transposed_2d(call: relax.Call) -> Anchor:
    """A 2-D transposed convolution, NCHW and IOHW."""
    attrs = call.attrs
    require_layouts(attrs, "NCHW", "IOHW")
    batch, channels, height, width = shape_of(call.args[0], WORDS)
    _, out_channels, *kernel = shape_of(call.args[1], WORDS)
    layer = TransposedConvolution(
        batch=batch,
        in_channels=channels,
        out_channels=out_channels * int(attrs.groups),
        groups=int(attrs.groups),
        in_height=height,
        in_width=width,
        kernel=(kernel[0], kernel[1]),
        stride=pair(attrs.strides),
        padding=four(attrs.padding),
        dilation=pair(attrs.dilation),
        output_padding=pair(attrs.output_padding),
    )
    return Anchor(layer, (0, 1))


def transposed_1d(call: relax.Call) -> Anchor:
    """A 1-D transposed convolution is one of height 1."""
    attrs = call.attrs
    require_layouts(attrs, "NCW", "IOW")
    batch, channels, width = shape_of(call.args[0], WORDS)
    _, out_channels, kernel = shape_of(call.args[1], WORDS)
    layer = TransposedConvolution(
        batch=batch,
        in_channels=channels,
        out_channels=out_channels * int(attrs.groups),
        groups=int(attrs.groups),
        in_height=1,
        in_width=width,
        kernel=(1, kernel),
        stride=(1, ints(attrs.strides)[0]),
        padding=two(attrs.padding),
        dilation=(1, ints(attrs.dilation)[0]),
        output_padding=(0, ints(attrs.output_padding)[0]),
    )
    return Anchor(layer, (0, 1))


def matrix_product(call: relax.Call, rhs_transposed: bool = False) -> MatrixProduct:
    """Batch dimensions fold into rows, or are the same on both sides."""
    left, right = shape_of(call.args[0], WORDS), shape_of(call.args[1], WORDS)
    if min(len(left), len(right)) < 2:
        raise RefusedError("one side of the product is a vector")
    (*left_batch, m, k), (*right_batch, _, n) = left, right
    batch = math.prod(left_batch)
    if math.prod(right_batch) == 1:
        return MatrixProduct(batch, m, n, k, rhs_transposed=rhs_transposed)
    if _without_leading_ones(left_batch) != _without_leading_ones(right_batch):
        raise RefusedError(f"the batch dimensions {left_batch} and {right_batch} broadcast")
    return MatrixProduct(batch, m, n, k, rhs_batched=True, rhs_transposed=rhs_transposed)


def _without_leading_ones(batch: Sequence[int]) -> list[int]:
    sizes = list(batch)
    while sizes and sizes[0] == 1:
        sizes.pop(0)
    return sizes
