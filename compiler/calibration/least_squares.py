"""Least squares over samples that come one batch after another, in float64.

Only sums are kept, so memory is that of the unknowns and not of the samples:

- ``AffineFit``: per channel, the scale and shift that come nearest to an activation,
  a = cov(x, y) / var(x), b = mean(y) - a mean(x), from moments that are merged batch by
  batch (Chan, Golub and LeVeque, 1979), which does not cancel as plain sums do;
- ``KernelFit``: the change D of a convolution's kernel and bias that minimises
  |patches D - rest|^2 + ridge * mean(diag G) |D|^2, G = patches^T patches, by normal
  equations. The ridge pulls towards the kernel that is there, so that no change is the
  answer where the samples say nothing, and the error on them never grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from motet.passes.merging.convolution import Conv
from motet.runtime.device import Array

RIDGE = 1e-4
"""Of the mean diagonal of the normal equations."""
LARGEST_SYSTEM = 8192
"""Unknowns per output channel that are solved for: the normal equations take 512 MB."""


class AffineFit:
    """Scale and shift per channel that map x to y best, over all samples and positions."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self._mean_x, self._mean_y = np.zeros(channels), np.zeros(channels)
        self._var_x, self._cov, self._var_y = (np.zeros(channels) for _ in range(3))
        self._moved = np.zeros(channels)

    def add(self, x: Array, y: Array) -> None:
        """Samples x and y, both [batch, channels, ...]."""
        x, y = _by_channel(x), _by_channel(y)
        count = x.shape[1]
        mean_x, mean_y = x.mean(1), y.mean(1)
        off_x, off_y = x - mean_x[:, None], y - mean_y[:, None]
        total = self.count + count
        step_x, step_y = mean_x - self._mean_x, mean_y - self._mean_y
        between = self.count * count / total
        self._var_x += (off_x**2).sum(1) + between * step_x**2
        self._var_y += (off_y**2).sum(1) + between * step_y**2
        self._cov += (off_x * off_y).sum(1) + between * step_x * step_y
        self._mean_x += step_x * count / total
        self._mean_y += step_y * count / total
        self._moved += np.abs(y - x).sum(1)
        self.count = total

    @property
    def scale_and_shift(self) -> Array:
        """[2, channels]; exactly 1 and 0 where y was x, scale 0 where x never varied."""
        scale = np.divide(self._cov, self._var_x, out=np.zeros_like(self._cov),
                          where=self._var_x > 0)  # fmt: skip
        shift = self._mean_y - scale * self._mean_x
        same = self._moved == 0
        return np.stack([np.where(same, 1.0, scale), np.where(same, 0.0, shift)])

    @property
    def error(self) -> float:
        """What the fit leaves: sum |y - fit|^2 over sum |y - mean y|^2; 0 where y never varies."""
        explained = np.divide(self._cov**2, self._var_x, out=np.zeros_like(self._cov),
                              where=self._var_x > 0)  # fmt: skip
        left = np.where(self._moved == 0, 0.0, np.maximum(self._var_y - explained, 0.0))
        total = self._var_y.sum()
        return float(left.sum() / total) if total else 0.0


def _by_channel(values: Array) -> Array:
    """[batch, channels, ...] as float64 [channels, everything else]."""
    moved = np.moveaxis(np.asarray(values, np.float64), 1, 0)
    return moved.reshape(moved.shape[0], -1)


class KernelFit:
    """The change of ``conv`` that brings its results nearest to given ones.

    conv: what is there. positions: slices of the spatial axes of the result that count; all
    where None (a strip at the border may be computed by others).
    """

    def __init__(self, conv: Conv, positions: tuple[slice, ...] | None = None) -> None:
        self.conv = conv
        self.positions = (slice(None), slice(None), *(positions or ()))
        inner = conv.weight[0].size + 1
        self._gram = np.zeros((conv.groups, inner, inner))
        self._right = np.zeros((conv.groups, inner, conv.out_channels // conv.groups))
        self._before = np.zeros(conv.groups)

    @property
    def unknowns(self) -> int:
        """Per output channel."""
        return int(self._gram.shape[1])

    @property
    def results(self) -> int:
        """How many results of one output channel were added."""
        return int(self._gram[0, -1, -1])

    def add(self, x: Array, wanted: Array) -> None:
        """Samples: operand [batch, I, ...], and results [batch, O, ...] that it should have."""
        for operand, result in zip(x, wanted, strict=True):  # one by one: patches are large
            self._add_sample(operand.astype(np.float64)[None], result.astype(np.float64)[None])

    def _add_sample(self, x: Array, wanted: Array) -> None:
        conv, groups = self.conv, self.conv.groups
        bias = conv.bias if conv.has_map else conv.bias.reshape(-1, *(1,) * conv.rank)
        targets = np.split((wanted - bias)[self.positions], groups, axis=1)
        for group, operand in enumerate(np.split(x, groups, axis=1)):
            rows = patches(operand, conv)[self.positions]
            matrix = np.moveaxis(rows, 1, -1).reshape(-1, rows.shape[1])
            kernel = np.split(conv.weight, groups)[group].reshape(-1, matrix.shape[1])
            target = np.moveaxis(targets[group], 1, -1).reshape(len(matrix), -1)
            self._accumulate(group, matrix, target - matrix @ kernel.T)

    def _accumulate(self, group: int, matrix: Array, rest: Array) -> None:
        matrix = np.concatenate([matrix, np.ones((len(matrix), 1))], axis=1)
        self._gram[group] += matrix.T @ matrix
        self._right[group] += matrix.T @ rest
        self._before[group] += (rest**2).sum()

    def refitted(self, ridge: float = RIDGE) -> Conv:
        """``conv`` changed by the solution; a bias map is shifted as a whole."""
        conv = self.conv
        change = self._solution(ridge).transpose(0, 2, 1).reshape(conv.out_channels, -1)
        weight = conv.weight + change[:, :-1].reshape(conv.weight.shape)
        shift = change[:, -1].reshape(-1, *(1,) * (conv.bias.ndim - 1))
        return Conv(
            weight, conv.bias + shift, conv.stride, conv.padding, conv.dilation, conv.groups
        )

    def bias_corrected(self) -> Conv:
        """``conv`` with the bias that makes the mean of every channel right, and no more."""
        conv = self.conv
        counts = self._gram[:, -1, -1][:, None]
        shift = (self._right[:, -1, :] / np.maximum(counts, 1)).reshape(-1)
        bias = conv.bias + shift.reshape(-1, *(1,) * (conv.bias.ndim - 1))
        return Conv(conv.weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    def errors(self, ridge: float = RIDGE) -> tuple[float, float]:
        """Sum of squared errors on the samples before and after ``refitted``."""
        change = self._solution(ridge)
        gained = 2 * (change * self._right).sum() - (change * (self._gram @ change)).sum()
        before = float(self._before.sum())
        return before, max(before - float(gained), 0.0)

    def bias_errors(self) -> tuple[float, float]:
        """Sum of squared errors on the samples before and after ``bias_corrected``."""
        counts = np.maximum(self._gram[:, -1, -1][:, None], 1)
        gained = float((self._right[:, -1, :] ** 2 / counts).sum())
        before = float(self._before.sum())
        return before, max(before - gained, 0.0)

    def _solution(self, ridge: float) -> Array:
        """[groups, unknowns, O / groups]."""
        mean = np.trace(self._gram, axis1=1, axis2=2) / self.unknowns
        if not mean.any():
            return np.zeros_like(self._right)
        damped = self._gram + ridge * np.where(mean > 0, mean, 1.0)[:, None, None] * np.eye(
            self.unknowns
        )
        return np.asarray(np.linalg.solve(damped, self._right))


def patches(x: Array, conv: Conv) -> Array:
    """What each result reads: [batch, I * taps, *result sizes], in the order of the weights.

    x: one group's operand [batch, I, *sizes], zero-padded here as ``conv`` says.
    """
    pads = [(0, 0), (0, 0), *zip(map(_not_negative, conv.begin), map(_not_negative, conv.end),
                                 strict=True)]  # fmt: skip
    padded = np.pad(x, pads)
    sizes = conv.sizes(x.shape[2:])
    taps = list(product(*map(range, conv.kernel)))
    result = np.empty((x.shape[0], x.shape[1], len(taps), *sizes))
    for index, tap in enumerate(taps):
        result[:, :, index] = padded[(slice(None), slice(None), *_window(tap, sizes, conv))]
    return result.reshape(x.shape[0], -1, *sizes)


def _not_negative(padding: int) -> int:
    if padding < 0:
        raise ValueError("a convolution that crops its operand is not fitted")
    return padding


def _window(tap: Sequence[int], sizes: Sequence[int], conv: Conv) -> tuple[slice, ...]:
    """The positions of the padded operand that ``tap`` reads for all results."""
    starts = [t * d for t, d in zip(tap, conv.dilation, strict=True)]
    return tuple(
        slice(start, start + (size - 1) * step + 1, step)
        for start, size, step in zip(starts, sizes, conv.stride, strict=True)
    )
