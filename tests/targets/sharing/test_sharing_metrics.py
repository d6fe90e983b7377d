"""Scores on numbers worked by hand, and intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sharing_loads import array, load, run

from motet.targets.sharing.intervals import Interval, interval, student_t
from motet.targets.sharing.metrics import energy_score, real_time_scores, scores


def test_real_time_scores() -> None:
    late_ms = np.array([-1000.0, -0.1, 0.0, 0.1, 1.0, 1e9])
    expected = [1.0, 1 / (1 + math.exp(-1.5)), 0.5, 1 / (1 + math.exp(1.5)), 3.059e-7, 0.0]
    np.testing.assert_allclose(real_time_scores(late_ms / 1e3), expected, rtol=1e-3, atol=1e-12)


def test_energy_scores() -> None:
    assert energy_score(0) == 1
    assert energy_score(0.3) == pytest.approx(0.8)
    assert energy_score(1.5) == 0
    assert energy_score(2) == 0


def test_two_models_by_hand() -> None:
    # At 1000 ticks a second. a: [0, 4) of a period of 10. b: asked for at 0, [4, 10): due at 10.
    outcome = run(
        load("a", array(4, 0.15), period="1/100"),
        load("b", array(6, 0.3), period="1/50", deadline="1/100"),
        seconds="1/50",
        clock=1000,
    )
    a, b = outcome.models
    assert (a.latency, b.latency, b.late) == ([4, 4], [10], [0])
    assert outcome.joules == pytest.approx(0.6)
    found = scores(outcome)
    one, other = found.models
    assert (one.normalised_turnaround, other.normalised_turnaround) == (1, pytest.approx(10 / 6))
    assert found.antt == pytest.approx((1 + 10 / 6) / 2)
    assert found.stp == pytest.approx(1 + 6 / 10)
    assert found.fairness == pytest.approx(0.6)
    assert (one.met, other.met, one.qoe, other.qoe) == (1, 1, 1, 1)
    assert (one.energy, other.energy) == (pytest.approx(0.9), pytest.approx(0.8))
    assert (one.real_time, other.real_time) == (pytest.approx(1), 0.5)
    assert found.xrbench == pytest.approx(100 * (0.9 + 0.5 * 0.8) / 2)


def test_a_drop_counts_once() -> None:
    # Frames of 12 ms every 10: 0 begins at 0 and is 2 late; 1 begins at 12, ends at 24, 4 late;
    # 2 (due at 30) begins at 24 and is 6 late; 3 begins at 36, ends at 48, 8 late; 4 is due at
    # 50, begins at 48, ends at 60, 10 late; 5 is due at 60 and has not begun: dropped.
    outcome = run(load("a", array(12, 0.75), period="1/100"), seconds="6/100", clock=1000)
    (model,) = outcome.models
    assert (model.released, model.finished, model.dropped) == (6, 5, 1)
    assert model.late == [2, 4, 6, 8, 10]
    (found,) = scores(outcome).models
    assert found.qoe == pytest.approx(5 / 6)
    mean = sum(1 / (1 + math.exp(15 * late)) for late in model.late) / 5
    assert found.real_time == pytest.approx(mean)
    assert found.score == pytest.approx(mean * 0.5 * 5 / 6)
    assert found.met == 0


def test_what_is_not_known_is_none() -> None:
    # "b" is asked for, waits, and is dropped; "c" has no deadline, "a" has all the time.
    outcome = run(load("a", 40, period=40), load("b", 1, period=10), load("c", 3), seconds=40)
    found = scores(outcome, energy_known=False)
    a, b, c = found.models
    assert (found.stp, found.antt, found.fairness, found.xrbench) == (None, None, None, None)
    assert (b.normalised_turnaround, b.qoe, b.real_time, b.met) == (None, 0, None, 0)
    assert (a.energy, a.score, c.real_time, c.met) == (None, None, None, None)
    known = scores(outcome).models
    assert (known[1].score, known[2].score) == (0, None)


def test_a_model_that_nothing_asked_for_is_left_out() -> None:
    pair = (
        load("a", array(4, 0.15), period="1/100"),
        load("b", array(6, 0.3), period="1/100", after=("a",), probability=1e-9),
    )
    found = scores(run(*pair, seconds="1/20", clock=1000))
    assert (found.models[1].qoe, found.models[1].score) == (None, None)
    assert (found.antt, found.stp, found.fairness) == (1, 1, 1)
    assert found.xrbench == pytest.approx(90)


def test_intervals() -> None:
    assert interval([]) is None
    assert interval([None]) is None
    assert interval([3.0, None]) == Interval(3.0, None, 1)
    found = interval([1.0, 2.0, 3.0, 4.0])
    assert found is not None
    assert found.mean == 2.5
    # s = sqrt(5/3), t(3) = 3.1824
    assert found.half == pytest.approx(3.1824 * math.sqrt(5 / 3) / 2)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.706), (19, 2.093), (30, 2.042), (40, 2.0211), (120, 1.9799)]
)
def test_student(freedom: int, quantile: float) -> None:
    assert student_t(freedom) == pytest.approx(quantile, abs=5e-4)


def test_an_interval_holds_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    found = [interval(list(random.normal(5, 2, 20))) for _ in range(2000)]
    inside = sum(abs(one.mean - 5) <= one.half for one in found if one and one.half)
    assert abs(inside / 2000 - 0.95) < 0.02
