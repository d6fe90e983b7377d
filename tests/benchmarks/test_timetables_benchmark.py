"""The benchmark of timetables: factors by bisection, rates made faster, and a scenario's row."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from motet.benchmarks import timetables
from motet.benchmarks.xrbench import SCENARIOS
from motet.targets.sharing.loads import Load, Share, Stage
from motet.targets.timetables.jobs import Problem, problem


def small() -> Problem:
    """Two models on two pods at 1000 ticks a second: 3 and 4 ms on both, 5 and 7 on one."""

    def load(name: str, one: int, both: int, rate: int) -> Load:
        shares = (Share(1, one), Share(2, both))
        return Load(name, (Stage("array", both, 0.0, shares),), Fraction(rate))

    return problem([load("a", 5, 3, 50), load("b", 7, 4, 25)], Fraction(1000), 2)


def test_bisection() -> None:
    found = timetables.largest(lambda factor: factor <= Fraction(17, 10), Fraction(0), Fraction(4))
    assert 1.68 < found <= 1.7
    assert timetables.largest(lambda factor: True, Fraction(0), Fraction(4)) == 4
    assert timetables.largest(lambda factor: False, Fraction(0), Fraction(4)) == 0


def test_faster() -> None:
    made = small()
    assert timetables.load_of(made) == 50 * 0.003 + 25 * 0.004
    twice = timetables.faster(made, Fraction(2))
    assert twice.hyperperiod == made.hyperperiod / 2
    assert timetables.load_of(twice) == 2 * timetables.load_of(made)


def test_a_row() -> None:
    row = timetables.measured("small", small(), 0.5, 1, lambda line: None)
    # In turn 3 + 4 + 3 ms in 40 ms: up to four times the rates; a frame's deadline is its period.
    assert 3.5 < row.factors["time"] <= row.bound <= 4.001
    assert row.factors["both"] >= max(row.factors["time"], row.factors["space"])
    assert all(value <= row.bound for value in row.factors.values())
    assert all(0 <= share <= 1 for share in row.missed.values())
    assert set(row.missed) == set(timetables.DYNAMIC)
    assert replace(row, array="x").array == "x"
    assert len(SCENARIOS) == 7
