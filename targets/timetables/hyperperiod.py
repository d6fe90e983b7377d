"""The hyperperiod: after it the frames of all models come again as they did.

With rates as fractions it is lcm(1 / rate) = lcm(numerators) / gcd(denominators) of the periods,
exactly. Rates that are not made for each other (29.97 beside 30) have one of thousands of
frames; the refusal then names the rates that, rounded, make it short.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import combinations

from motet.runtime.errors import SpecError

MAX_FRAMES = 4000
"""Frames of all models in a hyperperiod; a timetable of so many takes some minutes."""

NICE = tuple(
    sorted(
        {Fraction(a, b) for a in range(1, 9) for b in (1, 2, 3, 4)} | {Fraction(10), Fraction(12)}
    )
)
"""Ratios to another rate, or to 1 Hz, to which a rate may be rounded."""


def hyperperiod(rates: Sequence[Fraction]) -> Fraction:
    """Seconds after which frames at ``rates`` (Hz, positive) come as they did: their periods' lcm.

    >>> hyperperiod([Fraction(60), Fraction(45), Fraction(30)])
    Fraction(1, 15)
    """
    periods = [1 / rate for rate in rates]
    return Fraction(
        math.lcm(*(period.numerator for period in periods)),
        math.gcd(*(period.denominator for period in periods)),
    )


def frames(rates: Sequence[Fraction]) -> int:
    """Of all models in a hyperperiod."""
    whole = hyperperiod(rates)
    return sum(int(rate * whole) for rate in rates)


def checked_hyperperiod(rates: Mapping[str, Fraction], most: int = MAX_FRAMES) -> Fraction:
    """The hyperperiod of models' rates; raises ``SpecError`` where it has too many frames."""
    found = frames([*rates.values()])
    if found <= most:
        return hyperperiod([*rates.values()])
    told = ", ".join(f"models.{name}.rate_hz = {_hz(rate)}" for name, rate in rates.items())
    whole = hyperperiod([*rates.values()])
    raise SpecError(
        f"the frames come again only after {float(whole):.6g} s, {found:,} frames, and a timetable "
        f"has at most {most:,} ({told}): {_advice(rates, most)}"
    )


def _advice(rates: Mapping[str, Fraction], most: int) -> str:
    rounded = rounding(rates, most)
    if rounded is None:
        return "round the rates to multiples of one of them"
    parts = ", ".join(f"{name} to {_hz(rate)} Hz" for name, rate in rounded.items())
    after = {**rates, **rounded}
    return (
        f"round {parts}, which gives {float(hyperperiod([*after.values()])):.6g} s and "
        f"{frames([*after.values()]):,} frames"
    )


def rounding(rates: Mapping[str, Fraction], most: int = MAX_FRAMES) -> dict[str, Fraction] | None:
    """The fewest models whose rates, rounded, give at most ``most`` frames, and their new rates.

    Of equally few those with the least relative change. A rate is rounded to a simple multiple of
    a rate that stays, or to whole hertz. None: nothing of this kind helps.
    """
    for count in range(1, len(rates) + 1):
        best: tuple[Fraction, dict[str, Fraction]] | None = None
        for chosen in combinations(rates, count):
            found = _rounded(rates, chosen, most)
            if found is not None and (best is None or found[0] < best[0]):
                best = found
        if best is not None:
            return best[1]
    return None


def _rounded(
    rates: Mapping[str, Fraction], chosen: Sequence[str], most: int
) -> tuple[Fraction, dict[str, Fraction]] | None:
    """New rates of ``chosen``, one after another, and the largest relative change."""
    known = {name: rate for name, rate in rates.items() if name not in chosen}
    new: dict[str, Fraction] = {}
    change = Fraction(0)
    for name in chosen:
        old = rates[name]
        bases = [*known.values(), *new.values()] or [Fraction(1)]
        whole = {Fraction(max(1, round(old)))}
        wanted = sorted({base * ratio for base in bases for ratio in NICE} | whole)
        ranked = sorted(wanted, key=lambda rate: (abs(rate / old - 1), rate))
        fits = (r for r in ranked if frames([*known.values(), *new.values(), r]) <= most)
        found = next(fits, None)
        if found is None or abs(found / old - 1) > Fraction(1, 4):
            return None
        new[name] = found
        change = max(change, abs(found / old - 1))
    return change, new


def _hz(rate: Fraction) -> str:
    """A rate as a specification has it; a fraction where no short decimal is it."""
    if rate.denominator == 1:
        return str(rate.numerator)
    text = f"{float(rate):.10g}"
    return text if Fraction(text) == rate else f"{rate} ({text})"
