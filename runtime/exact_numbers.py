"""Numbers as people and files write them, as fractions: 29.97 is 2997/100, 30000/1001 itself.

``Fraction`` alone works out 10 ** 999999999 where a text asks for it, and knows no bounds.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated

from msgspec import Meta

Rational = Annotated[
    str,
    Meta(
        pattern="^[1-9][0-9]{0,11}/[1-9][0-9]{0,11}$",
        title='a fraction above 0 as "30000/1001"',
    ),
]
"""A positive number that no short decimal is."""

LONGEST_SECONDS = 10**9
"""The longest time that anything here is asked for: 31 years."""


def exact(text: str) -> Fraction:
    """The decimal number, or fraction of whole numbers, that ``text`` is.

    Raises ``ValueError`` for anything else, also for numbers that no double has the size of.

    >>> exact("29.97"), exact("30000/1001")
    (Fraction(2997, 100), Fraction(30000, 1001))
    """
    if "/" in text:
        try:
            return Fraction(text)
        except ZeroDivisionError:
            raise ValueError(f"{text!r} divides by 0") from None
    size = float(text)
    if not math.isfinite(size):
        raise ValueError(f"{text!r} is no finite number")
    return Fraction(text) if size else Fraction(0)
