"""Canonical vectors, and products of them: what the operators of vectors compute, in NumPy.

*Canonical* is a tensor whose reduction is its last two axes: integers (*rest, G, V) and scales
(*rest, G), where ``G = ceil(size / V)`` and the last vector is filled with zeros. Scales are
uint16 (two levels; gamma stands apart) or float32 (one level). ``targets/operators/vectors``
has the same as Relax operators; machines are held against these functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.targets.quantized.accumulators import rounded_products
from motet.targets.quantized.scales import quantized
from motet.targets.quantized.types import Axes, Integers, QuantTensor, QuantType, Reals

Scales = NDArray[Any]
Sums = NDArray[Any]


@dataclass(frozen=True)
class Vectors:
    """integers: int8 or uint8 (*rest, G, V). scales: uint16 or float32 (*rest, G)."""

    integers: Integers
    scales: Scales

    @property
    def is_exact(self) -> bool:
        """Whether scales are integers."""
        return self.scales.dtype.kind == "u"


@dataclass(frozen=True)
class Rounding:
    """Of a product of two integer scales: ``dropped`` low bits go; at most ``product_bits`` stay.

    See ``accumulators.rounded_products``.
    """

    dropped: int = 0
    product_bits: int | None = None


EXACT = Rounding()


def canonical(tensor: QuantTensor, vector: int | None = None) -> Vectors:
    """The vectors of ``tensor``, whose ``gamma`` is left to the caller where scales are integers.

    vector: V of a tensor that has one scale for all: each vector gets that scale, float32.
    Raises ``ValueError`` for a scale per channel, which no vector of several channels has.
    """
    kind, axis = tensor.type, tensor.axes.reduction
    if kind.granularity == "vector":
        held = tensor.gamma if tensor.scales is None else tensor.scales
        scales = np.ascontiguousarray(np.moveaxis(held, axis, -1))
        return Vectors(cut(tensor.values, axis, kind.vector), scales)
    if vector is None or tensor.gamma.size != 1:
        raise ValueError("without scales of vectors, V is given and one scale is all there is")
    integers = cut(tensor.values, axis, vector)
    return Vectors(integers, np.full(integers.shape[:-1], tensor.gamma.reshape(()), np.float32))


def cut(values: NDArray[Any], axis: int, vector: int) -> NDArray[Any]:
    """``values`` with ``axis`` as two at the end, (*rest, G, V); filled with zeros."""
    moved = np.moveaxis(values, axis, -1)
    rest, size = moved.shape[:-1], moved.shape[-1]
    filled = np.pad(moved, [(0, 0)] * len(rest) + [(0, -size % vector)])
    return np.ascontiguousarray(filled.reshape(*rest, -(-size // vector), vector))


def joined(integers: NDArray[Any], axis: int, size: int) -> NDArray[Any]:
    """The inverse of ``cut``: G and V are again the axis ``axis`` of ``size``."""
    flat = integers.reshape(*integers.shape[:-2], -1)[..., :size]
    return np.ascontiguousarray(np.moveaxis(flat, -1, axis))


def quantize_vectors(
    x: Reals, axis: int, kind: QuantType, gamma: Reals | None = None, *, paper: bool = False
) -> Vectors:
    """``motet.quantize_vectors``: vectors of ``x`` along ``axis``; ``gamma`` as ``kind`` has it."""
    return canonical(quantized(x, kind, Axes(axis), gamma=gamma, paper=paper))


def vector_matmul(
    a: Vectors, b: Vectors, factor: Reals | None = None, rounding: Rounding = EXACT
) -> Sums:
    """``motet.vector_matmul``: (*batch, M, G, V) by (*batch, N, G, V) or (N, G, V).

    factor: float32 (N,) or (). None: the int64 sums themselves, of integer scales.
    Returns (*batch, M, N).
    """
    batch = np.broadcast_shapes(a.integers.shape[:-3], b.integers.shape[:-3])
    total = _start(a, (*batch, a.integers.shape[-3], b.integers.shape[-3]))
    for g in range(a.integers.shape[-2]):
        dots = _dots(a.integers[..., g, :], np.swapaxes(b.integers[..., g, :], -1, -2))
        left, right = a.scales[..., :, None, g], b.scales[..., None, :, g]
        total += _scaled(dots, left, right, a, rounding)
    return _worth(total, factor)


def vector_conv(
    x: Vectors,
    w: Vectors,
    factor: Reals | None = None,
    rounding: Rounding = EXACT,
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int = 1,
) -> Sums:
    """``motet.vector_conv``: (N, *space, groups Gg, V) by (O, *taps, Gg, V) is (N, O, *space).

    pads: before every spatial axis, then after; padding is zeros. factor: as in ``vector_matmul``.
    """
    spatial = len(strides)
    padded = Vectors(*(_padded(part, pads, spatial) for part in (x.integers, x.scales)))
    outputs, count = w.integers.shape[0] // groups, w.integers.shape[-2]
    places = [
        _places(size, taps, *step)
        for size, taps, *step in zip(
            padded.scales.shape[1:-1], w.scales.shape[1:-1], strides, dilations, strict=True
        )
    ]
    parts = []
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        mine = slice(group * count, (group + 1) * count)
        data = Vectors(padded.integers[..., mine, :], padded.scales[..., mine])
        parts.append(_group(data, Vectors(w.integers[rows], w.scales[rows]), places, rounding))
    shaped = None if factor is None else np.reshape(factor, (-1,) + (1,) * spatial)
    return _worth(np.concatenate(parts, axis=1), shaped)


def _group(data: Vectors, w: Vectors, places: list[list[slice]], rounding: Rounding) -> Sums:
    """Channels first at the end: (N, O of the group, *space)."""
    total: Sums | None = None
    for tap in np.ndindex(*w.scales.shape[1:-1]):
        window = (slice(None), *(axis[at] for axis, at in zip(places, tap, strict=True)))
        integers, scales = data.integers[window], data.scales[window]
        taken, its = w.integers[(slice(None), *tap)], w.scales[(slice(None), *tap)]
        if total is None:
            total = _start(data, (*integers.shape[:-2], taken.shape[0]))
        for g in range(taken.shape[-2]):
            dots = _dots(integers[..., g, :], taken[:, g].T)
            total += _scaled(dots, scales[..., None, g], its[:, g], data, rounding)
    assert total is not None, "a convolution has taps"
    return np.moveaxis(total, -1, 1)


def _places(size: int, taps: int, stride: int, dilation: int) -> list[slice]:
    """What each tap reads along a padded spatial axis."""
    extent = (size - (taps - 1) * dilation - 1) // stride + 1
    starts = [tap * dilation for tap in range(taps)]
    return [slice(start, start + (extent - 1) * stride + 1, stride) for start in starts]


def _padded(part: NDArray[Any], pads: Sequence[int], spatial: int) -> NDArray[Any]:
    around = list(zip(pads[:spatial], pads[spatial:], strict=True))
    return np.pad(part, [(0, 0), *around, *[(0, 0)] * (part.ndim - 1 - spatial)])


def _dots(left: Integers, right: Integers) -> NDArray[np.int64]:
    """Sums of products of one vector each; below 2^53, so exact in float64."""
    return (left.astype(np.float64) @ right.astype(np.float64)).astype(np.int64)


def _start(operand: Vectors, shape: tuple[int, ...]) -> Sums:
    return np.zeros(shape, np.int64 if operand.is_exact else np.float32)


def _scaled(
    dots: NDArray[np.int64], left: Scales, right: Scales, operand: Vectors, rounding: Rounding
) -> Sums:
    if not operand.is_exact:
        return dots.astype(np.float32) * np.multiply(left, right, dtype=np.float32)
    products = left.astype(np.int64) * right.astype(np.int64)
    return dots * rounded_products(products, rounding.dropped, rounding.product_bits)


def _worth(total: Sums, factor: Reals | None) -> Sums:
    if factor is None:
        return total
    return np.multiply(total.astype(np.float32), factor, dtype=np.float32)
