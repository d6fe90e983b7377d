"""What is remembered of a value's magnitudes over many samples: memory does not grow with them.

A histogram of |x| in equal bins from 0 to a power of two. A larger magnitude doubles the range
as often as needed, and neighbouring bins become one: counts stay exact, and a magnitude is known
to one bin, 1/2048 to 1/1024 of the largest one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import CompileError
from motet.targets.quantized.types import QuantType

BINS = 2048

Method = Literal["max", "percentile", "mse"]
"""How a clipping limit is found: none clipped, a share of magnitudes kept, least square error."""

_LIMITS_TRIED = 256


@dataclass
class Magnitudes:
    """Magnitudes of a value, seen a piece at a time.

    largest, least, greatest: of |x|; of x, and 0; count: elements; channel_least,
    channel_greatest: of x and 0 for every index along ``axis``, where that is given.
    """

    name: str = "value"
    axis: int | None = None
    largest: float = 0.0
    least: float = 0.0
    greatest: float = 0.0
    count: int = 0
    channel_least: NDArray[np.float32] | None = None
    channel_greatest: NDArray[np.float32] | None = None
    _range: float = 0.0
    _bins: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: NDArray[Any]) -> None:
        """Remembers ``values``, of any shape. Raises ``CompileError`` for NaN and infinity."""
        reals = np.asarray(values, np.float32)
        if not reals.size:
            return
        sizes = np.abs(reals)
        top = float(sizes.max())
        if not np.isfinite(top):
            raise CompileError(
                f"{self.name} is not finite on the calibration data: leave that sample out, "
                "or mend the model"
            )
        self.count += reals.size
        self.largest = max(self.largest, top)
        self.least = min(self.least, float(reals.min()))
        self.greatest = max(self.greatest, float(reals.max()))
        if self.axis is not None:
            self._add_channels(reals, self.axis)
        self._widen(top)
        if self._range:
            places = (sizes.ravel().astype(np.float64) * (BINS / self._range)).astype(np.int64)
            self._bins += np.bincount(np.minimum(places, BINS - 1), minlength=BINS)
        else:
            self._bins[0] += reals.size

    @property
    def channels(self) -> NDArray[np.float32] | None:
        """The largest |x| of every index along ``axis``, where that is given."""
        if self.channel_least is None or self.channel_greatest is None:
            return None
        return np.maximum(self.channel_greatest, -self.channel_least)

    def limit(self, method: Method, kind: QuantType, percentile: float = 99.99) -> float:
        """The magnitude to clip at; 0 where nothing but 0 was seen.

        kind: whose integers shall hold the values, for "mse". percentile: of magnitudes kept, 0
        to 100, to within a bin; what is exactly 0 counts.
        """
        if method == "max" or not self._range:
            return self.largest
        if method == "percentile":
            return min(self._percentile(percentile), self.largest)
        return self._least_square(kind)

    def clipped(self, limit: float) -> float:
        """The share of elements whose magnitude lies in bins beyond ``limit``."""
        if not self.count or not self._range:
            return 0.0
        edges = np.arange(BINS) * (self._range / BINS)
        return float(self._bins[edges >= limit].sum() / self.count)

    def _percentile(self, percentile: float) -> float:
        wanted = max(1.0, self.count * min(max(percentile, 0.0), 100.0) / 100)
        enough = np.cumsum(self._bins) >= wanted
        return float((np.argmax(enough) + 1) * self._range / BINS)

    def _least_square(self, kind: QuantType) -> float:
        """The limit, of 256 up to the largest, whose rounding and clipping errs least."""
        used = np.flatnonzero(self._bins)
        centres = ((used + 0.5) * (self._range / BINS)).astype(np.float64)
        centres[-1] = min(centres[-1], self.largest)
        counts = self._bins[used]
        tried = self.largest * np.arange(1, _LIMITS_TRIED + 1) / _LIMITS_TRIED
        errors = [_square_error(centres, counts, limit, kind.largest) for limit in tried]
        return float(tried[int(np.argmin(errors))])

    def _add_channels(self, reals: NDArray[np.float32], axis: int) -> None:
        rest = tuple(other for other in range(reals.ndim) if other != axis % reals.ndim)
        least, greatest = reals.min(axis=rest, initial=0), reals.max(axis=rest, initial=0)
        if self.channel_least is not None and self.channel_greatest is not None:
            least = np.minimum(least, self.channel_least)
            greatest = np.maximum(greatest, self.channel_greatest)
        self.channel_least, self.channel_greatest = least, greatest

    def _widen(self, top: float) -> None:
        if not self._range and top:
            self._range = float(2.0 ** np.ceil(np.log2(top)))
        while top > self._range:
            pairs = self._bins.reshape(-1, 2).sum(axis=1)
            self._bins = np.concatenate([pairs, np.zeros(BINS // 2, np.int64)])
            self._range *= 2


def _square_error(
    centres: NDArray[np.float64], counts: NDArray[np.int64], limit: float, largest: int
) -> float:
    """Rounding within a step errs by step^2 / 12 in the mean, also inside a bin of values."""
    step = limit / largest
    outside = np.maximum(centres - limit, 0)
    inside = np.where(outside > 0, 0, step * step / 12)
    near_zero = centres < step / 2
    inside = np.where(near_zero, np.minimum(centres**2, step * step / 4), inside)
    return float(np.dot(counts, outside**2 + inside))
