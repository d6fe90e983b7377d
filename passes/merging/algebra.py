"""Two convolutions in a row as one (exact, or refused with the reason).

With weights W1, W2, strides s1, s2, dilations d1, d2 and padding p1, p2 (Kim et al., ICML
2023, section 3; Fu et al., ICML 2022, section 3), taps t = u1 d1 + u2 d2 s1:

    W[o, i, t] = sum over m, u1, u2 with that t of W2[o, m, u2] W1[m, i, u1]
    stride s1 s2,  padding p1 + p2 s1,  dilation gcd(d1, d2 s1)
    b[o] = b2[o] + sum_{m,u2} W2[o, m, u2] b1[m]

Pointwise expand E, depthwise D, pointwise project P so become the dense convolution
W[o, i, u] = sum_m P[o, m] D[m, u] E[m, i].

Border: the second convolution's padding is zero, the merged one computes there what the first
would. With padding p2 along an axis the merged one is right at the border where no position
outside the first's result would reach the operand: k1 <= s1 + p1 in front (k1: the extent of
W1), behind the same from the sizes. b1 is then missing at the border: the bias becomes a map,
which is the second convolution of b1, one value per position. Where the operand is reached the
error depends on it, and no map repairs it: refused, and ``reach`` says how far it goes.

Groups: those of the result are gcd(g1, g2); within each the product is dense.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd, prod
from typing import Any

import numpy as np

from motet.passes.merging.border import Sizes, merged_bias, reach, wrong_ends
from motet.passes.merging.convolution import Conv
from motet.runtime.device import Array


@dataclass(frozen=True)
class Refusal:
    """Why two convolutions do not merge. border: only their border is in the way."""

    reason: str
    border: bool = False


LARGEST = 1 << 25
"""Weights. A convolution of more is refused: no machine is quicker with it."""


def compose(
    first: Conv,
    second: Conv,
    spatial: Sizes | None = None,
    *,
    ignore_border: bool = False,
    values: bool = True,
) -> Conv | Refusal:
    """``second`` on the result of ``first`` as one convolution.

    Parameters
    ----------
    first, second: the convolutions, of the same rank.
    spatial: sizes of the operand's spatial axes, None where one is open. Needed only where
        ``second`` is padded (for a bias map, and for what is behind the far border).
    ignore_border: merge also where the operand is reached from outside: the result is right
        away from the border (``reach``), and its bias is a vector where ``first`` has no map.
    values: False for the geometry alone: weights are zeros and biases ones that take no memory.

    Returns
    -------
    The merged convolution, or why there is none.
    """
    if first.out_channels != second.in_channels or first.rank != second.rank:
        return Refusal(f"{first.out_channels} channels meet {second.in_channels}")
    if any(p < 0 for p in second.padding):
        return Refusal("the second convolution crops its operand")
    sizes = tuple(spatial or (None,) * first.rank)
    near, far = reach(first, second, sizes)
    if not ignore_border:
        if None in far:
            return Refusal("its size is open, so what is behind the far border is not known", True)
        if any(near) or any(far):
            return Refusal(_reached(first, second), True)
    bias = merged_bias(first, second, sizes, ignore_border, values)
    if bias is None:
        return Refusal("the bias differs at the border, and the size is open", True)
    return _merged(first, second, bias, values)


def _reached(first: Conv, second: Conv) -> str:
    kernels = "x".join(map(str, first.kernel)), "x".join(map(str, second.kernel))
    return (
        f"the {kernels[1]} convolution behind pads the result of the {kernels[0]} one with zeros,"
        " where one convolution would reach the operand: they differ at the border"
    )


def _merged(first: Conv, second: Conv, bias: Array, values: bool) -> Conv | Refusal:
    axes = range(first.rank)
    steps = [second.dilation[a] * first.stride[a] for a in axes]
    dilation = [_dilation(first, second, a, steps[a]) for a in axes]
    stride = [s1 * s2 for s1, s2 in zip(first.stride, second.stride, strict=True)]
    padding = _paddings(first.begin, second.begin, first) + _paddings(first.end, second.end, first)
    groups = gcd(first.groups, second.groups)
    extent = [first.extent[a] + (second.kernel[a] - 1) * steps[a] for a in axes]
    kernel = [(extent[a] - 1) // dilation[a] + 1 for a in axes]
    shape = (second.out_channels, first.in_channels // groups, *kernel)
    if prod(shape) > LARGEST:
        return Refusal(f"one convolution would have {prod(shape)} weights")
    weight = np.broadcast_to(np.zeros(()), shape)
    if values:
        weight = _weights(first, second, shape, extent, dilation)
    return Conv(weight, bias, tuple(stride), padding, tuple(dilation), groups)


def _paddings(one: Sequence[int], other: Sequence[int], first: Conv) -> tuple[int, ...]:
    return tuple(p1 + p2 * s for p1, p2, s in zip(one, other, first.stride, strict=True))


def _weights(
    first: Conv,
    second: Conv,
    shape: tuple[int, ...],
    extent: Sequence[int],
    dilation: Sequence[int],
) -> Array:
    """W of the module's first formula."""
    products = _Products(first, second)
    weight = np.zeros((*shape[:2], *extent))
    for tap in np.ndindex(*second.kernel):
        at: Any = tuple(
            slice(u * d2 * s1, u * d2 * s1 + size, d1)
            for u, d2, s1, size, d1 in zip(
                tap, second.dilation, first.stride, first.extent, first.dilation, strict=True
            )
        )
        weight[(slice(None), slice(None), *at)] += products(tap)
    steps: Any = (..., *(slice(None, None, d) for d in dilation))
    return np.ascontiguousarray(weight[steps])


def _dilation(first: Conv, second: Conv, axis: int, step: int) -> int:
    """The largest distance of which all taps are multiples."""
    own = first.dilation[axis] if first.kernel[axis] > 1 else 0
    return gcd(own, step if second.kernel[axis] > 1 else 0) or 1


class _Products:
    """W2[:, :, u2] W1 for a tap u2: [O, I / G, *kernel of the first], G = gcd(g1, g2).

    Where the first has more groups than the result, or the second has, the blocks of zeros
    between its groups are never written out: a depthwise layer stays one number per channel.
    """

    def __init__(self, first: Conv, second: Conv) -> None:
        groups, middle = gcd(first.groups, second.groups), first.out_channels
        self.kernel, self.out_channels = first.kernel, second.out_channels
        inner = first.in_channels // first.groups
        self.first = first.weight.reshape(
            groups, first.groups // groups, middle // first.groups, inner, -1
        )
        self.second = second.weight.reshape(
            groups, second.groups // groups, -1, middle // second.groups, *second.kernel
        )
        if self.first.shape[1] > 1 and self.second.shape[1] > 1:
            self.first = _dense(self.first)

    def __call__(self, tap: Sequence[int]) -> Array:
        index: Any = (..., *tap)
        second, first = self.second[index], self.first
        groups, finer, out, middle = second.shape
        if finer > 1:
            made = np.matmul(second, first.reshape(groups, finer, middle, -1))
        else:
            parts = second.reshape(groups, out, first.shape[1], -1).swapaxes(1, 2)
            made = np.matmul(parts, first.reshape(*first.shape[:3], -1)).swapaxes(1, 2)
        return np.asarray(made.reshape(self.out_channels, -1, *self.kernel))


def _dense(first: Array) -> Array:
    """[G, f, M, I, taps] with the zeros between its f groups: [G, 1, f M, f I, taps]."""
    groups, finer, middle, inner, taps = first.shape
    dense = np.zeros((groups, finer, middle, finer, inner, taps))
    for own in range(finer):
        dense[:, own, :, own] = first[:, own]
    return dense.reshape(groups, 1, finer * middle, finer * inner, taps)


def chain(
    convs: Sequence[Conv],
    spatial: Sizes | None = None,
    *,
    ignore_border: bool = False,
    values: bool = True,
) -> Conv | Refusal:
    """All of ``convs`` in a row as one; parameters as ``compose`` has them."""
    sizes = sizes_of(convs, spatial or (None,) * convs[0].rank)
    merged = convs[-1]
    for first, size in zip(convs[-2::-1], sizes[-2::-1], strict=True):
        made = compose(first, merged, size, ignore_border=ignore_border, values=values)
        if isinstance(made, Refusal):
            return made
        merged = made
    return merged


def sizes_of(convs: Sequence[Conv], spatial: Sizes) -> list[Sizes]:
    """Spatial sizes of the operand of each of ``convs``; None along an axis that is open."""
    sizes: list[Sizes] = [tuple(spatial)]
    for one in convs[:-1]:
        known = one.sizes([size or 0 for size in sizes[-1]])
        before = sizes[-1]
        sizes.append(
            tuple(k if s is not None else None for k, s in zip(known, before, strict=True))
        )
    return sizes


def outline(conv: Conv) -> Conv:
    """``conv`` without its numbers: what ``compose`` takes where ``values`` is False."""
    weight = np.broadcast_to(np.zeros(()), conv.weight.shape)
    return replace(conv, weight=weight, bias=_flag(conv.bias.shape, conv.has_bias))


def _flag(shape: tuple[int, ...], value: bool) -> Array:
    return np.broadcast_to(np.float64(value), shape)


def strips(convs: Sequence[Conv], spatial: Sequence[int]) -> tuple[int, ...]:
    """How many results at each end of each axis differ when ``chain`` ignores the border.

    Before each axis, then after, as paddings are. They count what the operand does, and, where
    a bias of ``convs`` is not seen by every tap, what that does.
    """
    sizes = sizes_of(convs, spatial)
    widths = [0] * 2 * len(spatial)
    merged = outline(convs[-1])
    for first, size in zip(convs[-2::-1], sizes[-2::-1], strict=True):
        known = tuple(int(n or 0) for n in size)
        ends = wrong_ends(first, merged, known)
        widths = [max(pair) for pair in zip(widths, ends, strict=True)]
        made = compose(outline(first), merged, size, ignore_border=True, values=False)
        if isinstance(made, Refusal):
            break
        merged = made
    return tuple(widths)


def add_identity(conv: Conv, scale: float = 1.0) -> Conv | Refusal:
    """``conv(x) + scale x`` as one convolution: adds to the tap that meets the operand's place.

    Refused where sizes or channels differ, or no tap of the kernel lies at that place.
    """
    if conv.in_channels != conv.out_channels or any(s != 1 for s in conv.stride):
        return Refusal("the shortcut needs stride 1 and as many channels out as in")
    if any(b + e != k - 1 for b, e, k in zip(conv.begin, conv.end, conv.extent, strict=True)):
        return Refusal("the shortcut needs a result of the operand's size")
    if any(b % d or not 0 <= b < k for b, d, k in zip(
        conv.begin, conv.dilation, conv.extent, strict=True
    )):  # fmt: skip
        return Refusal("no tap of the merged kernel lies where the shortcut adds")
    place = tuple(b // d for b, d in zip(conv.begin, conv.dilation, strict=True))
    weight, per_group = conv.weight.copy(), conv.in_channels // conv.groups
    channels = np.arange(conv.out_channels)
    index: Any = (channels, channels % per_group, *place)
    weight[index] += scale
    return replace(conv, weight=weight)
