"""Weights of row and column filters that stand in for K x K depthwise filters.

FuSeConv (Ganesan and Kumar, arXiv 2105.13434) puts a 1 x K and a K x 1 convolution side by side,
so what a channel gets is no product of the two (rank 1) but one line of taps, or a cross of two.
With d a channel's K x K taps, p the patch that they meet and S = E[p p^T], the best taps on a
line (or on the cross) L of positions are those of least output error

    min_w E[(d . p - w . p_L)^2]    =>    w = S_LL^-1 S_L d.                                (1)

S is measured on calibration data (``PatchMoments``; then means are taken out, and the bias gets
what the filter leaves of them), or assumed: values whose correlation falls by ``CORRELATION``
from one position to the next, S = T x T, T_ij = CORRELATION^|i - j|. Under it, (1) for a row is
the sum of the kernel's rows weighted by their correlation with the middle one: all of a smooth
image passes. (With uncorrelated values, S = 1, it would be the middle row alone, and what the
other rows carry be lost.) ``rank_one`` puts the best separable kernel, sigma u v^T of the
singular value decomposition, in the place of d first: the publication's view. It is never
better by (1).

``half``: a channel has a row or a column. With P (1 x 1) behind, y = P z is met as well as z is.
``full``: a channel has both, and the layers that read them have weights [P1, P2].

- Where something not linear stands between (``mixed``), row and column each stand for the whole
  result, z ~ a z_row + b z_column, with the a and b of least error by S: P1 = P a, P2 = P b.
- Where nothing does (``crossed``), (1) is solved on the cross, the middle tap is halved, and
  P1 = P2 = P. No P1, P2 are better by S: the kernel from channel m to output o is
  P1[o, m] row + P2[o, m] column, on the cross for any choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from motet.passes.merging.convolution import Conv
from motet.runtime.device import Array

CORRELATION = 0.9
"""Of neighbouring values, where nothing is measured: that of natural images and smooth maps."""
_RIDGE = 1e-6
"""Of the mean diagonal of S, so that constant channels have a solution."""


class Moments(NamedTuple):
    """Of the patches that each channel's taps meet.

    second: [C or 1, taps, taps], about the mean. mean: [C or 1, taps].
    """

    second: Array
    mean: Array


class PatchMoments:
    """Sums over samples that come one batch after another, in float64.

    conv: the depthwise convolution, one filter per channel.
    """

    def __init__(self, conv: Conv) -> None:
        taps = int(np.prod(conv.kernel))
        self.conv = conv
        self._count = 0
        self._sum = np.zeros((conv.out_channels, taps))
        self._products = np.zeros((conv.out_channels, taps, taps))

    def add(self, x: Array) -> None:
        """Samples [batch, C, height, width] of what the convolution reads."""
        for sample in x:
            met = patches_of(sample.astype(np.float64), self.conv)
            self._count += met.shape[2]
            self._sum += met.sum(2)
            self._products += met @ met.transpose(0, 2, 1)

    @property
    def moments(self) -> Moments:
        """Of all samples so far."""
        mean = self._sum / self._count
        second = self._products / self._count - mean[:, :, None] * mean[:, None, :]
        return Moments(second, mean)


def patches_of(x: Array, conv: Conv) -> Array:
    """[C, taps, positions] of one sample [C, height, width], padded as ``conv`` says."""
    (top, left), (bottom, right) = conv.begin, conv.end
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    views = np.lib.stride_tricks.sliding_window_view(padded, conv.kernel, axis=(1, 2))
    views = views[:, :: conv.stride[0], :: conv.stride[1]]
    taps = views.shape[3] * views.shape[4]
    return views.reshape(x.shape[0], -1, taps).transpose(0, 2, 1)


def assumed_moments(kernel: tuple[int, int], correlation: float = CORRELATION) -> Moments:
    """Of values that nothing is known of but how neighbours correlate."""
    tables = [
        correlation ** np.abs(np.subtract.outer(np.arange(k), np.arange(k))).astype(np.float64)
        for k in kernel
    ]
    taps = kernel[0] * kernel[1]
    return Moments(np.kron(*tables)[None], np.zeros((1, taps)))


def best_rank_one(kernels: Array) -> Array:
    """Of each kernel [C, Kh, Kw] the separable one that is nearest to it."""
    u, sigma, v = np.linalg.svd(kernels)
    return np.asarray(sigma[:, :1, None] * u[:, :, :1] * v[:, :1, :])


@dataclass(frozen=True, eq=False)
class Lines:
    """Filters of every channel, and what they leave.

    row [C, Kw], column [C, Kh]; row_shift, column_shift [C]: to add to the bias.
    mix [C, 2]: a and b of the module's text. row_error, column_error [C]: (1) by S.
    """

    row: Array
    column: Array
    row_shift: Array
    column_shift: Array
    mix: Array
    row_error: Array
    column_error: Array

    def shares(self) -> Array:
        """What row and column stand for: [C, Kh, Kw]."""
        height, width = self.column.shape[1], self.row.shape[1]
        met = np.zeros((len(self.row), height, width))
        met[:, height // 2, :] += self.row * self.mix[:, :1]
        met[:, :, width // 2] += self.column * self.mix[:, 1:]
        return met


def mixed(kernels: Array, moments: Moments, *, rank_one: bool = False) -> Lines:
    """Row and column that each stand for the whole: of ``half``, and of ``full`` (see above).

    kernels: [C, Kh, Kw], odd sizes.
    """
    flat, wanted = _flat(kernels, rank_one)
    row, column = _lines(kernels)
    fits = [_projected(wanted, moments, line) for line in (row, column)]
    rest = [flat - fit for fit in fits]
    second = np.broadcast_to(moments.second, (len(flat), *moments.second.shape[1:]))
    pair = np.stack(fits, 1)
    mix = _solved(pair @ second @ pair.transpose(0, 2, 1), _times(pair @ second, flat))
    errors = [((r[:, None] @ second)[:, 0] * r).sum(1) for r in rest]
    shifts = [(r * moments.mean).sum(1) for r in rest]
    return Lines(
        row=fits[0][:, row],
        column=fits[1][:, column],
        row_shift=shifts[0],
        column_shift=shifts[1],
        mix=mix,
        row_error=errors[0],
        column_error=errors[1],
    )


def crossed(kernels: Array, moments: Moments, *, rank_one: bool = False) -> Lines:
    """Row and column whose sum stands for the whole: of ``full`` where all is linear."""
    flat, wanted = _flat(kernels, rank_one)
    row, column = _lines(kernels)
    middle = kernels[0].size // 2
    fit = _projected(wanted, moments, np.union1d(row, column))
    fit[:, middle] /= 2
    whole = fit.copy()
    whole[:, middle] *= 2
    shift = ((flat - whole) * moments.mean).sum(1)
    zeros = np.zeros(len(flat))
    ones = np.ones((len(flat), 2))
    return Lines(fit[:, row], fit[:, column], shift, zeros, ones, zeros, zeros)


def _flat(kernels: Array, rank_one: bool) -> tuple[Array, Array]:
    kernels = np.asarray(kernels, np.float64)
    wanted = best_rank_one(kernels) if rank_one else kernels
    return kernels.reshape(len(kernels), -1), wanted.reshape(len(kernels), -1)


def _lines(kernels: Array) -> tuple[Array, Array]:
    """Places of the middle row and column in a flattened kernel."""
    places: Array = np.arange(kernels[0].size).reshape(kernels.shape[1:])
    return places[places.shape[0] // 2], places[:, places.shape[1] // 2]


def _projected(kernels: Array, moments: Moments, line: Array) -> Array:
    """(1): taps [C, Kh Kw] that are zero off ``line``."""
    second = moments.second
    inner = second[:, line][:, :, line]
    right = _times(second[:, line], kernels)
    fit = np.zeros_like(kernels)
    fit[:, line] = _solved(np.broadcast_to(inner, (len(kernels), *inner.shape[1:])), right)
    return fit


def _times(matrices: Array, vectors: Array) -> Array:
    return np.asarray((matrices @ vectors[:, :, None])[:, :, 0])


def _solved(matrices: Array, right: Array) -> Array:
    """Solutions of the systems of all channels; zeros where a matrix is zero."""
    size = matrices.shape[1]
    scale = np.trace(matrices, axis1=1, axis2=2) / size
    ridge = np.where(scale > 0, _RIDGE * scale, 1.0)[:, None, None] * np.eye(size)
    return np.asarray(np.linalg.solve(matrices + ridge, right[:, :, None])[:, :, 0])
