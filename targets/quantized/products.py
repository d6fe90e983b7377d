"""Products of quantised tensors in integers: the reference that machines must equal.

    sum over vectors v of  round(sw_v sa_v) (sum over j of qw_vj qa_vj)

in int64, exact; what it is worth is ``gamma_w gamma_a 2^dropped`` of it. Written for
clarity: each vector's sum apart, as the multiply-accumulate unit of VS-Quant makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from motet.targets.quantized.accumulators import dropped_bits, rounded_products
from motet.targets.quantized.types import QuantTensor, Reals

Sums = NDArray[np.int64]


@dataclass(frozen=True)
class Product:
    """Integer sums, and what 1 of them is worth (float32, broadcastable)."""

    sums: Sums
    worth: Reals

    def real(self) -> Reals:
        """The sums as reals: converted to float32, then multiplied once."""
        return np.multiply(self.sums.astype(np.float32), self.worth, dtype=np.float32)


def matmul(left: QuantTensor, right: QuantTensor, product_bits: int | None = None) -> Product:
    """``left @ right``: activations ``(..., M, K)`` by weights or activations ``(..., K, N)``.

    Both have two levels, or one scale per tensor or channel, with vectors along K. Raises
    ``ValueError`` for float32 scales of vectors, which no integer sum can carry.
    """
    rank_l, rank_r = left.values.ndim, right.values.ndim
    length = _length(left, right)
    vectors_l = _vectors(left, rank_l - 1, length)
    vectors_r = _vectors(right, rank_r - 2, length)
    dropped = dropped_bits(right.type, left.type, product_bits)
    total: Sums = np.zeros((), np.int64)
    for (ql, sl), (qr, sr) in zip(vectors_l, vectors_r, strict=True):
        scale = rounded_products(sl * sr, dropped, product_bits)
        total = total + scale * (ql @ qr)
    return Product(total, _worth(left.gamma, right.gamma, dropped))


def convolution(
    data: QuantTensor,
    weights: QuantTensor,
    *,
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
    groups: int = 1,
    product_bits: int | None = None,
) -> Product:
    """A convolution: data ``(N, C, ...)``, weights ``(O, C / groups, ...)``, vectors along C.

    pads: before every spatial axis, then after, as ONNX has them; padding is 0. With groups
    the vectors of the data must not straddle groups (or have one scale per tensor); a depthwise
    one may have data with a scale per channel (``axes`` with another reduction, channel 1).
    """
    spatial = len(strides)
    padded = [(0, 0), (0, 0), *zip(pads[:spatial], pads[spatial:], strict=True)]
    dropped = dropped_bits(weights.type, data.type, product_bits)
    length = _length(data, weights)
    sums = [
        _one_group(
            _vectors(_group(data, g, groups), 1, length),
            _vectors(_rows(weights, g, groups), 1, length),
            padded,
            strides,
            dilations,
            (dropped, product_bits),
        )
        for g in range(groups)
    ]
    gamma_w = weights.gamma.reshape((1, -1) + (1,) * spatial)
    gamma = np.repeat(data.gamma, weights.values.shape[0] // groups, axis=1)
    gamma = gamma if data.type.granularity == "channel" else data.gamma
    return Product(np.concatenate(sums, axis=1), _worth(gamma, gamma_w, dropped))


Vectors = list[tuple[Sums, Sums]]


def _one_group(
    data: Vectors,
    weights: Vectors,
    padded: list[tuple[int, int]],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    rounding: tuple[int, int | None],
) -> Sums:
    total: Sums = np.zeros((), np.int64)
    for (q, s), (qw, sw) in zip(data, weights, strict=True):
        wide = np.pad(q, padded)
        scales = np.pad(np.broadcast_to(s, (q.shape[0], 1, *q.shape[2:])), padded)
        taps = qw.shape[2:]
        extents = [
            (size - (k - 1) * d - 1) // stride + 1
            for size, k, d, stride in zip(wide.shape[2:], taps, dilations, strides, strict=True)
        ]
        for tap in np.ndindex(*taps):
            window = tuple(
                slice(t * d, t * d + (n - 1) * stride + 1, stride)
                for t, d, n, stride in zip(tap, dilations, extents, strides, strict=True)
            )
            at = (slice(None), slice(None), *window)
            dots = np.einsum("nc...,oc->no...", wide[at], qw[(slice(None), slice(None), *tap)])
            sw_tap = np.broadcast_to(sw, (qw.shape[0], 1, *taps))[(slice(None), 0, *tap)]
            scale = scales[at] * sw_tap.reshape((1, -1) + (1,) * len(taps))
            total = total + rounded_products(scale, *rounding) * dots
    return total


def _length(one: QuantTensor, other: QuantTensor) -> int | None:
    """Elements of the vectors that a product is summed in; None: neither operand has any."""
    found = {each.type.vector for each in (one, other) if each.type.granularity == "vector"}
    if len(found) > 1:
        raise ValueError(f"the operands' vectors have {sorted(found)} elements")
    return next(iter(found), None)


def _vectors(tensor: QuantTensor, axis: int, length: int | None) -> Vectors:
    """Integers and scales of every vector along ``axis``; scales keep the axis with size 1."""
    if tensor.axes.reduction != axis and tensor.type.granularity == "vector":
        raise ValueError(f"vectors lie along axis {tensor.axes.reduction}, the product's is {axis}")
    if tensor.type.granularity == "vector" and tensor.scales is None:
        raise ValueError("float32 scales of vectors have no integer product")
    values = tensor.centred()
    size = values.shape[axis]
    one = np.ones((1,) * values.ndim, np.int64)
    return [
        (
            np.take(values, np.arange(start, min(start + (length or size), size)), axis),
            one if tensor.scales is None
            else np.take(tensor.scales, [start // tensor.type.vector], axis).astype(np.int64),
        )
        for start in range(0, size, length or max(size, 1))
    ]  # fmt: skip


def _group(data: QuantTensor, group: int, groups: int) -> QuantTensor:
    """The channels that a group reads."""
    size = data.values.shape[1] // groups
    if groups > 1 and data.scales is not None and size % data.type.vector:
        raise ValueError("vectors of the data straddle the groups of the convolution")
    count = -(-size // data.type.vector)
    part = slice(group * size, (group + 1) * size)
    scales = None if data.scales is None else data.scales[:, group * count : (group + 1) * count]
    zero = data.zero
    if zero is not None and zero.size > 1:
        zero = zero[:, part]
    return replace(data, values=data.values[:, part], scales=scales, zero=zero)


def _rows(weights: QuantTensor, group: int, groups: int) -> QuantTensor:
    """The output channels of a group; their gammas stay those of all."""
    size = weights.values.shape[0] // groups
    part = slice(group * size, (group + 1) * size)
    scales = None if weights.scales is None else weights.scales[part]
    return replace(weights, values=weights.values[part], scales=scales)


def _worth(left: Reals, right: Reals, dropped: int) -> Reals:
    product = np.multiply(left, right, dtype=np.float32)
    return np.multiply(product, np.float32(2.0**dropped), dtype=np.float32)
