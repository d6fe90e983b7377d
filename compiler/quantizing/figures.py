"""How well integers stand for tensors: signal to noise, what was clipped, how scales spread."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from motet.runtime.device import Array
from motet.targets.quantized.types import QuantTensor, QuantType

SCALE_BINS = 16
"""Bins of a scale histogram: integer scales from 0 to 2^M - 1, in equal parts."""


@dataclass
class TensorFigures:
    """Of one tensor, over all that was added.

    signal, noise: sums of squares; elements; clipped: those whose magnitude lies beyond what the
    largest integer is worth, by more than half a step; scales: histogram of a vector's
    integer scales, ``SCALE_BINS`` bins; zero_scales: vectors whose scale is 0, of ``vectors``.
    """

    type: QuantType
    signal: float = 0.0
    noise: float = 0.0
    elements: int = 0
    clipped: int = 0
    vectors: int = 0
    zero_scales: int = 0
    scales: NDArray[np.int64] = field(default_factory=lambda: np.zeros(SCALE_BINS, np.int64))

    def add(self, reals: Array, made: QuantTensor) -> None:
        """Remembers how ``made`` stands for ``reals``."""
        kept = made.dequantized().astype(np.float64)
        wanted = np.asarray(reals, np.float64)
        error = np.abs(wanted - kept)
        self.signal += float(np.square(wanted).sum())
        self.noise += float(np.square(error).sum())
        self.elements += wanted.size
        at_end = (made.values == made.type.largest) | (made.values == made.type.least)
        half = np.abs(kept) / (2 * made.type.largest) if made.zero is None else made.gamma / 2
        reach = np.abs(kept) + half
        at_end &= made.values != (0 if made.zero is None else made.zero)
        self.clipped += int((at_end & (np.abs(wanted) > reach)).sum())
        if made.scales is not None:
            self.vectors += made.scales.size
            self.zero_scales += int((made.scales == 0).sum())
            width = (made.type.largest_scale + 1) / SCALE_BINS
            places = np.minimum((made.scales / width).astype(np.int64), SCALE_BINS - 1)
            self.scales += np.bincount(places.ravel(), minlength=SCALE_BINS)

    @property
    def sqnr_db(self) -> float:
        """Signal to quantisation noise, dB; infinite where nothing was lost."""
        return decibels(self.signal, self.noise)

    @property
    def clipped_share(self) -> float:
        """Share of elements that were clipped."""
        return self.clipped / self.elements if self.elements else 0.0


def decibels(signal: float, noise: float) -> float:
    """10 log10 (signal / noise)."""
    if noise <= 0:
        return math.inf
    return -math.inf if signal <= 0 else 10 * math.log10(signal / noise)


def joint(figures: list[TensorFigures]) -> float:
    """DB of a product whose operands have those: the shares of noise add up."""
    share = sum(f.noise / f.signal for f in figures if f.signal > 0)
    return decibels(1.0, share)
