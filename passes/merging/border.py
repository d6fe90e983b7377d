"""What zero padding between two convolutions means for the one that they become.

The second convolution reads zeros outside the first's result; one convolution would read there
what the first computes from what lies around (``algebra`` has the formulas). ``reach`` counts the
results for which that differs by the operand, ``merged_bias`` says what the bias becomes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from motet.passes.merging.convolution import Conv
from motet.runtime.device import Array

Sizes = Sequence[int | None]
"""Spatial sizes; None where one is open."""


def reach(
    first: Conv, second: Conv, spatial: Sizes
) -> tuple[tuple[int, ...], tuple[int | None, ...]]:
    """How many positions of the result, from each end of each axis, the merge gets wrong.

    Only for the operand: what the bias lacks at the border is a map's. None behind the far
    border where it depends on an open size.
    """
    axes = range(first.rank)
    near = tuple(_near(first, second, axis) for axis in axes)
    return near, tuple(_far(first, second, axis, spatial[axis]) for axis in axes)


def _near(first: Conv, second: Conv, axis: int) -> int:
    """Results in front that read a virtual position from which the operand is reached."""
    virtual = first.extent[axis] - first.stride[axis] - first.begin[axis]
    if virtual <= 0:
        return 0
    # Positions -q of the first's result, q >= 1, whose last tap is inside: q stride < extent - p.
    first_wrong = -((first.extent[axis] - first.begin[axis] - 1) // first.stride[axis])
    return _readers(second, axis, first_wrong, -1, in_front=True)


def _far(first: Conv, second: Conv, axis: int, size: int | None) -> int | None:
    if second.end[axis] <= 0:
        return 0
    if size is None:
        return _far_open(first, second, axis)
    inner = first.sizes(_only(first.rank, axis, size))[axis]
    last = (size + first.begin[axis] - 1) // first.stride[axis]
    if last < inner:
        return 0
    return _readers(second, axis, inner, last, in_front=False, size=inner)


def _far_open(first: Conv, second: Conv, axis: int) -> int | None:
    """Of stride 1 everywhere the far border is like the near one, whatever the size."""
    if first.stride[axis] == 1 and first.extent[axis] <= 1 + first.end[axis]:
        return 0
    return None


def _only(rank: int, axis: int, size: int) -> tuple[int, ...]:
    """``size`` along ``axis``; what stands elsewhere does not matter."""
    return tuple(size if other == axis else 1 << 20 for other in range(rank))


def _readers(second: Conv, axis: int, low: int, high: int, *, in_front: bool, size: int = 0) -> int:
    """Results of ``second``, counted from their end, that read a position in [low, high]."""
    stride, dilation, begin = second.stride[axis], second.dilation[axis], second.begin[axis]
    taps = range(second.kernel[axis])
    count = 1 << 20 if in_front else second.sizes(_only(second.rank, axis, size))[axis]
    far = max(0, (high + begin) // stride) if in_front else count - 1
    start = 0 if in_front else max(0, (low - (second.extent[axis] - 1) + begin) // stride)
    reading = [
        p
        for p in range(start, min(far + 1, count))
        if any(low <= p * stride + u * dilation - begin <= high for u in taps)
    ]
    if not reading:
        return 0
    return reading[-1] + 1 if in_front else count - reading[0]


def wrong_ends(first: Conv, second: Conv, spatial: tuple[int, ...]) -> tuple[int, ...]:
    """Results that differ at each end of each axis, for the operand or the bias of ``first``."""
    near, far = reach(first, second, spatial)
    ends = [*near, *(size or 0 for size in far)]
    if not first.has_bias:
        return tuple(ends)
    inner = first.sizes(spatial)
    for axis in range(first.rank):
        begin, end, size = second.begin[axis], second.end[axis], inner[axis]
        front = _readers(second, axis, -begin, -1, in_front=True) if begin else 0
        back = _readers(second, axis, size, size + end - 1, in_front=False, size=size) if end else 0
        ends[axis] = max(ends[axis], front)
        ends[first.rank + axis] = max(ends[first.rank + axis], back)
    return tuple(ends)


def merged_bias(
    first: Conv, second: Conv, sizes: Sizes, ignore_border: bool, values: bool = True
) -> Array | None:
    """b2 and what ``second`` makes of b1: a vector where it is the same everywhere.

    None where it is a map and the size is open. Without ``values`` all ones, of that shape.
    """
    if not first.has_bias:
        return second.bias
    if not values:
        return _shape_of_bias(first, second, sizes, ignore_border)
    if first.has_map:
        return np.asarray(second(first.bias[None])[0])
    if ignore_border or not any(second.padding):
        return _plus(second.bias, _tap_sums(first.bias, second).sum(axis=tuple(_axes(second))))
    if any(size is None for size in sizes):
        return None
    return _border_map(first, second, tuple(int(size or 0) for size in sizes))


def _shape_of_bias(first: Conv, second: Conv, sizes: Sizes, ignore_border: bool) -> Array | None:
    is_map = first.has_map or second.has_map or (any(second.padding) and not ignore_border)
    if is_map and any(size is None for size in sizes):
        return None
    outer = second.sizes(first.sizes([size or 0 for size in sizes])) if is_map else ()
    return np.broadcast_to(np.ones(()), (second.out_channels, *outer))


def _axes(conv: Conv) -> range:
    return range(1, conv.rank + 1)


def _tap_sums(values: Array, second: Conv) -> Array:
    """sum_m W2[o, m, u] values[m]: [O, *kernel]."""
    grouped = second.weight.reshape(second.groups, -1, *second.weight.shape[1:])
    sums = np.einsum("goi...,gi->go...", grouped, values.reshape(second.groups, -1))
    return np.asarray(sums.reshape(second.out_channels, *second.kernel))


def _border_map(first: Conv, second: Conv, spatial: tuple[int, ...]) -> Array:
    """The bias map: each tap's sum wherever the tap meets the first's result."""
    inner = first.sizes(spatial)
    outer = second.sizes(inner)
    table = _tap_sums(first.bias, second)
    for axis, (size, count) in enumerate(zip(inner, outer, strict=True)):
        position = np.arange(count)[:, None] * second.stride[axis]
        position = position + np.arange(second.kernel[axis]) * second.dilation[axis]
        position = position - second.begin[axis]
        meets = ((position >= 0) & (position < size)).astype(np.float64)
        table = np.moveaxis(np.tensordot(table, meets, ([axis + 1], [1])), -1, axis + 1)
    return _plus(second.bias, _vector_if_constant(table))


def _plus(bias: Array, more: Array) -> Array:
    """Their sum, where either may be a map."""
    rank = max(bias.ndim, more.ndim)
    parts = [part.reshape(part.shape + (1,) * (rank - part.ndim)) for part in (bias, more)]
    return np.asarray(parts[0] + parts[1])


def _vector_if_constant(table: Array) -> Array:
    flat = table.reshape(table.shape[0], -1)
    same = bool(flat.shape[1]) and bool((flat == flat[:, :1]).all())
    return flat[:, 0].copy() if same else table
