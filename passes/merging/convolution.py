"""A convolution as numbers: weights, bias, stride, padding, dilation, groups; any rank.

The arithmetic of merging is done on these, in float64 and without tvm; whoever makes a
layer of one rounds once. A scale and shift per channel, a batch-norm and zero padding on its
own are convolutions too (``affine``, ``pad``), so that one rule composes them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from motet.passes.decisions import Geometry
from motet.runtime.device import Array

_ALL_THREE = (slice(None),) * 3


@dataclass(frozen=True, eq=False)
class Conv:
    """``y[o, p] = bias[o] + sum_{i,u} weight[o, i, u] x[i, p stride + u dilation - begin]``.

    weight: [O, I / groups, *kernel], float64; bias: [O], or a bias map [O, *output sizes] where
    it depends on the position (then the convolution is of one input size only). padding: zeros
    before each spatial axis, then after each, as ONNX's ``pads``; a negative number crops.
    """

    weight: Array
    bias: Array
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return int(self.weight.ndim) - 2

    @property
    def kernel(self) -> tuple[int, ...]:
        """Taps along each spatial axis."""
        return tuple(int(size) for size in self.weight.shape[2:])

    @property
    def out_channels(self) -> int:
        """Channels of the result."""
        return int(self.weight.shape[0])

    @property
    def in_channels(self) -> int:
        """Channels of the operand, of all groups."""
        return int(self.weight.shape[1]) * self.groups

    @property
    def begin(self) -> tuple[int, ...]:
        """Zeros before each spatial axis."""
        return self.padding[: self.rank]

    @property
    def end(self) -> tuple[int, ...]:
        """Zeros after each spatial axis."""
        return self.padding[self.rank :]

    @property
    def extent(self) -> tuple[int, ...]:
        """Positions from the first tap to the last, both counted."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def has_map(self) -> bool:
        """Whether the bias depends on the position."""
        return bool(self.bias.ndim > 1)

    @cached_property
    def has_bias(self) -> bool:
        """Whether it adds anything."""
        return bool(self.bias.any())

    def sizes(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """Spatial sizes of the result for an operand of sizes ``spatial``."""
        ends = zip(spatial, self.begin, self.end, self.extent, self.stride, strict=True)
        return tuple((n + b + e - extent) // s + 1 for n, b, e, extent, s in ends)

    def __call__(self, x: Array) -> Array:
        """The convolution of x [N, I, *spatial]: [N, O, *output sizes], in float64.

        For checks and small tensors: a loop over taps.
        """
        sizes = self.sizes(x.shape[2:])
        padded = _padded(np.asarray(x, dtype=np.float64), self.begin, self.end)
        grouped = self.weight.reshape(self.groups, -1, *self.weight.shape[1:])
        total = np.zeros((x.shape[0], self.groups, grouped.shape[1], *sizes))
        for tap in np.ndindex(*self.kernel):
            index: Any = (..., *self._window(tap, sizes))
            window = padded[index]
            window = window.reshape(x.shape[0], self.groups, -1, *sizes)
            weights = grouped[(*_ALL_THREE, *tap)]
            flat = window.reshape(*window.shape[:3], -1)
            total += np.matmul(weights, flat).reshape(total.shape)
        bias = self.bias if self.has_map else self.bias.reshape(-1, *(1,) * self.rank)
        return np.asarray(total.reshape(x.shape[0], -1, *sizes) + bias)

    def _window(self, tap: Sequence[int], sizes: Sequence[int]) -> tuple[slice, ...]:
        """What a tap meets of the padded operand."""
        steps = zip(tap, self.dilation, self.stride, sizes, strict=True)
        return tuple(slice(u * d, u * d + (n - 1) * s + 1, s) for u, d, s, n in steps)

    def with_bias(self, bias: Array) -> Conv:
        """The same with another bias."""
        return replace(self, bias=bias)


def _padded(x: Array, begin: Sequence[int], end: Sequence[int]) -> Array:
    """Zeros around the spatial axes of x; a negative number crops."""
    crops: Any = tuple(
        slice(max(-b, 0), n - max(-e, 0)) for n, b, e in zip(x.shape[2:], begin, end, strict=True)
    )
    around = [(0, 0), (0, 0), *((max(b, 0), max(e, 0)) for b, e in zip(begin, end, strict=True))]
    index: Any = (..., *crops)
    return np.pad(x[index], around)


def conv(
    weight: Array,
    bias: Array | None = None,
    stride: Sequence[int] = (),
    padding: Sequence[int] = (),
    dilation: Sequence[int] = (),
    groups: int = 1,
) -> Conv:
    """A ``Conv`` with float64 values; what is not given is none, one, or zero."""
    rank = weight.ndim - 2
    zeros = np.zeros(weight.shape[0]) if bias is None else bias
    return Conv(
        np.asarray(weight, dtype=np.float64),
        np.asarray(zeros, dtype=np.float64),
        tuple(stride) or (1,) * rank,
        tuple(padding) or (0,) * 2 * rank,
        tuple(dilation) or (1,) * rank,
        groups,
    )


def affine(scale: Array, shift: Array, channels: int, rank: int = 2) -> Conv:
    """``x scale + shift`` per channel, as a depthwise convolution of one tap.

    scale: [channels] or []; shift: the same, or a map [channels, *sizes].
    """
    weight = np.broadcast_to(np.asarray(scale, dtype=np.float64), (channels,))
    shift = np.asarray(shift, dtype=np.float64)
    shift = np.broadcast_to(shift, (channels,)) if shift.ndim < 2 else shift
    return conv(weight.reshape(-1, *(1,) * (rank + 1)), shift, groups=channels)


def batch_norm(
    gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float, rank: int = 2
) -> Conv:
    """Inference batch-norm; parameters are [channels]."""
    scale = np.asarray(gamma, np.float64) / np.sqrt(np.asarray(variance, np.float64) + epsilon)
    return affine(scale, np.asarray(beta) - np.asarray(mean) * scale, len(scale), rank)


def pad(padding: Sequence[int], channels: int) -> Conv:
    """Zero padding on its own: ``padding`` before each spatial axis, then after each."""
    rank = len(padding) // 2
    return conv(np.ones((channels, 1, *(1,) * rank)), padding=padding, groups=channels)


def geometry_of(conv: Conv) -> Geometry:
    """A convolution but for its values."""
    return Geometry(
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        kernel=conv.kernel,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
    )
