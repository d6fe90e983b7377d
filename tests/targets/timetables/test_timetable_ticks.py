"""A hyperperiod shorter than a tick of the clock is refused: nothing can be put into it."""

from __future__ import annotations

from fractions import Fraction

import pytest

from motet.runtime.errors import SpecError
from motet.targets.sharing.loads import Load, Stage
from motet.targets.timetables.jobs import problem


def test_less_than_a_tick() -> None:
    load = Load("m", (Stage("array", 3),), Fraction(10**300))
    with pytest.raises(SpecError, match=r"less than a tick of the clock of 700,000,000 Hz: give"):
        problem([load], Fraction(7 * 10**8))
