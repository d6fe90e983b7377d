"""What several seeds say of a figure: its mean and how far off that may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95

_T975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788,
    2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639,
    2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip
"""Student's t, two-sided 95 %, for 1 to 30 degrees of freedom."""

_Z975 = 1.959964


@dataclass(frozen=True)
class Interval:
    """mean +- half is a 95 % confidence interval of the mean (Student's t).

    seeds: values that it stands on, those without one (None) left out; half: None for one.
    """

    mean: float
    half: float | None
    seeds: int


def interval(values: Sequence[float | None]) -> Interval | None:
    """None where no seed has a value."""
    known = [float(value) for value in values if value is not None]
    if not known:
        return None
    count, mean = len(known), math.fsum(known) / len(known)
    if count == 1:
        return Interval(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in known) / (count - 1)
    half = student_t(count - 1) * math.sqrt(variance / count)
    # Values that differ by rounding alone are one.
    return Interval(mean, half if half > 1e-12 * abs(mean) else 0.0, count)


def student_t(freedom: int) -> float:
    """The 97.5 % quantile; beyond the table two terms of its expansion around the normal's."""
    if freedom <= len(_T975):
        return _T975[freedom - 1]
    z = _Z975
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
