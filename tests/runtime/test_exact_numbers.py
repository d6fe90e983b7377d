"""Numbers as text: exact, bounded, and never worked out at length."""

from __future__ import annotations

from fractions import Fraction

import pytest

from motet.runtime.exact_numbers import exact


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("29.97", Fraction(2997, 100)),
        ("1e-3", Fraction(1, 1000)),
        ("30000/1001", Fraction(30000, 1001)),
        (" 7 ", Fraction(7)),
        ("0", Fraction(0)),
        ("1e-999999999", Fraction(0)),
    ],
)
def test_numbers_are_exact(text: str, value: Fraction) -> None:
    assert exact(text) == value


@pytest.mark.parametrize(
    "text", ["", "x", "nan", "inf", "1e400", "1e999999999", "1/0", "0/0", "1/x", "1.5/2"]
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        exact(text)
