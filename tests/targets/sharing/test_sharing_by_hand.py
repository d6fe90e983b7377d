"""Schedules worked by hand: two and three models, every policy, drops, cascades, ties."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from sharing_loads import array, host, load, models, run

from motet.runtime.errors import SpecError
from motet.targets.sharing.arrivals import Arrivals, read_trace
from motet.targets.sharing.loads import Load, fraction_of, ordered


def trace(**times: tuple[int, ...]) -> Arrivals:
    return Arrivals("trace", trace={name: tuple(map(Fraction, ts)) for name, ts in times.items()})


def test_one_periodic_model() -> None:
    outcome = run(load("a", 4, period=10), seconds=100)
    a = models(outcome)["a"]
    assert (a.released, a.finished, a.missed, a.dropped, a.unfinished) == (10, 10, 0, 0, 0)
    assert a.latency == [4] * 10
    assert a.late == [-6] * 10
    assert (a.used["array"], a.waited) == (40, 0)
    assert outcome.busy("array") == 0.4


def test_back_to_back_fills_the_array() -> None:
    outcome = run(load("a", 7), seconds=70)
    assert models(outcome)["a"].finished == 10
    assert outcome.busy("array") == 1.0
    assert models(run(load("a", 7), seconds=69))["a"].unfinished == 1


# Three jobs at 0, 1 and 2 in stages of 2 ticks; deadlines (after release) 20, 7, 7.
THREE = (
    load("long", 2, 2, 2, deadline=20, priority=1),
    load("mid", 2, 2, deadline=7, priority=0),
    load("quick", 2, deadline=7, priority=2),
)


@pytest.mark.parametrize(
    ("policy", "ends"),
    [
        ("fcfs", (6, 10, 12)),  # LLL MM Q: released first, done first
        ("priority", (8, 12, 4)),  # L Q LL MM
        ("edf", (12, 6, 8)),  # L MM Q LL: deadlines at 20, 8 and 9
    ],
)
def test_three_jobs_under_each_policy(policy: str, ends: tuple[int, ...]) -> None:
    arrivals = trace(long=(0,), mid=(1,), quick=(2,))
    outcome = run(*THREE, seconds=20, policy=policy, arrivals=arrivals, drop_late=False)
    found = models(outcome)
    assert tuple(m.latency[0] + at for at, m in enumerate(found.values())) == ends
    assert outcome.busy("array") == 12 / 20


def test_ties_go_by_the_order_of_the_specification() -> None:
    pair = (load("a", 3, period=10), load("b", 3, period=10))
    for policy in ("fcfs", "priority", "edf"):
        found = models(run(*pair, seconds=10, policy=policy))
        assert (found["a"].latency, found["b"].latency) == ([3], [6])


def test_array_and_host_work_at_once() -> None:
    outcome = run(
        load("long", array(6), host(3), period=10),
        load("short", host(2), array(2), period=10, deadline=7),
        seconds=10,
    )
    long, short = outcome.models
    assert long.latency == [9]
    # Ready for the array at 2, served at 6 when "long" leaves it, done at 8: one too late.
    assert (short.latency, short.late, short.missed) == ([8], [1], 1)
    assert (long.waited, short.waited) == (0, 4)
    assert (outcome.busy("array"), outcome.busy("host")) == (0.8, 0.5)


def test_priority_decides_among_those_released_together_and_breaks_no_stage_off() -> None:
    found = models(
        run(
            load("first", 10, period=100),
            load("low", 5, period=100),
            load("high", host(1), array(5), period=100, priority=1),
            seconds=100,
            policy="priority",
        )
    )
    assert [found[name].latency for name in ("first", "high", "low")] == [[10], [15], [20]]
    assert (found["low"].waited, found["high"].waited) == (15, 9)


def test_an_overloaded_array_drops_what_has_not_begun() -> None:
    a = models(run(load("a", 15, period=10), seconds=100))["a"]
    # Frame 0 ends at 15, late. Frame 1 begins there (due at 20), ends at 30, where frame 2 is
    # due and dropped; frame 3 begins at 30 again, and so on: every third frame is dropped.
    assert (a.finished, a.dropped, a.unfinished, a.missed) == (6, 3, 1, 10)
    kept = models(run(load("a", 15, period=10), seconds=100, drop_late=False))["a"]
    assert (kept.finished, kept.dropped, kept.unfinished, kept.missed) == (6, 0, 4, 10)


def test_a_cascade_waits_drops_together_and_counts_once() -> None:
    # "slow" keeps the array in [0, 12): frame 0 of a is due at 10 and has not begun.
    found = models(
        run(
            load("slow", 12, period=40, priority=9),
            load("a", 2, period=10),
            load("b", 3, period=10, after=("a",)),
            load("c", 1, period=20, after=("b",)),
            seconds=40,
            policy="priority",
        )
    )
    a, b, c = found["a"], found["b"], found["c"]
    assert (a.released, a.finished, a.dropped) == (4, 3, 1)
    assert (b.released, b.finished, b.dropped) == (4, 3, 1)
    assert (c.released, c.finished, c.dropped) == (2, 1, 1)
    # Frame 1, of 10: a in [12, 14), b in [14, 17); frame 2, of 20: a to 22, b to 25, c to 26.
    assert a.latency == [4, 2, 2]
    assert b.latency == [7, 5, 5]
    assert c.latency == [6]
    assert b.turnaround == [3, 3, 3]
    assert (a.missed, b.missed, c.missed) == (1, 1, 1)


def test_rates_of_a_chain_may_differ() -> None:
    # Frame j of "fast", at 3/10 a second, follows the newest frame of "a", at 1/10.
    found = models(
        run(
            load("a", 4, period=10),
            load("fast", 1, period="10/3", after=("a",), deadline=10),
            seconds=30,
        )
    )
    # Asked for at 0, 4 and 7 (whole ticks after 0, 3.33 and 6.67); ready at 4.
    assert found["fast"].latency[:3] == [5, 2, 1]
    assert found["fast"].released == 9
    half = models(run(load("a", 4, period=10), load("b", 1, period=25, after=("a",)), seconds=100))
    # Frame 1 is asked for at 25, with frame 2 of "a", of 20, which ended at 24.
    assert half["b"].latency == [5, 1, 5, 1]
    taken = models(run(load("a", 4, period=10), load("b", 1, after=("a",)), seconds=100))["b"]
    assert (taken.released, taken.load.rate_hz) == (10, Fraction(1, 10))


def test_followers_of_a_model_that_runs_back_to_back() -> None:
    found = models(run(load("a", 4), load("b", 2, after=("a",)), seconds=60))
    # By first come: a [0, 4), b [4, 6), a [6, 10), ... as b's frame is older than a's next.
    assert (found["a"].finished, found["b"].finished) == (10, 10)
    assert set(found["b"].latency[1:]) == {8}


def test_a_thousandth_frame_of_an_odd_rate_is_on_time() -> None:
    found = run(
        load("a", 1, period=1 / fraction_of(29.97), deadline=1),
        seconds=1000,
        clock=10**9,
    )
    assert models(found)["a"].released == 29970


def test_a_trace_file(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("model,seconds\na,0.5\nb,1/3\na,0.25\n")
    arrivals = read_trace(str(path), ["a", "b", "idle"])
    assert arrivals.trace == {
        "a": (Fraction(1, 4), Fraction(1, 2)), "b": (Fraction(1, 3),),
    }  # fmt: skip
    found = models(
        run(load("a", 1), load("b", 1), load("idle", 1), seconds=1, clock=1000, arrivals=arrivals)
    )
    assert [m.released for m in found.values()] == [2, 1, 0]
    for text, message in (
        ("model,seconds\nc,1\n", "line 2: 'c' is no model that follows no other; those are a, b"),
        ("model,seconds\na,-1\n", "line 2: -1 s is before the start"),
        ("model,seconds\na,soon\n", "line 2: 'soon' is no number of seconds"),
        ("model,time\na,1\n", "a trace has the columns model,seconds"),
    ):
        path.write_text(text)
        with pytest.raises(SpecError, match=message):
            read_trace(str(path), ["a", "b"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((load("m"),), "model 'm': give it stages"),
        ((load("m", 0),), "model 'm': back to back needs stages that take time"),
        ((load("m", -1, period=1),), "none of negative length"),
        ((Load("m", (array(1),), Fraction(0)),), "rate_hz must be positive"),
        ((load("m", 1, after=("gone",)),), "model 'm' follows 'gone', which is not simulated"),
        ((load("a", 1, after=("b",)), load("b", 1, after=("a",))), "a, b follow each other"),
        ((load("m", 1, period=1, probability=0.0),), "probability must be above 0 and at most 1"),
        ((load("m", 1, period=1, probability=0.5),), "give 'after'"),
        ((load("a", 1), load("b", 1, period=9, after=("a",))), "give that one a rate_hz"),
        (
            (load("a", 1), load("b", 1, period=9), load("c", 1, after=("a", "b"))),
            "model 'c' has a rate or follows models that have one",
        ),
    ],
)
def test_what_cannot_be_simulated(wrong: tuple[Load, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ordered(wrong)


def test_too_much_jitter() -> None:
    with pytest.raises(SpecError, match="a jitter of 1000 ms is no less than its period, 1000 ms"):
        run(load("m", 1, period=1), seconds=9, arrivals=Arrivals(jitter_seconds=Fraction(1)))


def test_a_model_over_its_share_gives_way() -> None:
    """Stages of 50 ms, a quarter of the time, a window of 100 ms: one in four once it is full."""
    greedy = load("greedy", 50, priority=9, time_share=0.25)
    outcome = run(greedy, load("meek", 50), seconds=10, policy="priority", clock=1000)
    used = {name: model.used["array"] for name, model in models(outcome).items()}
    assert used["greedy"] + used["meek"] == 10_000
    assert 2500 <= used["greedy"] <= 2500 + 25 + 50


def test_what_nobody_else_wants_a_model_over_its_share_may_have() -> None:
    outcome = run(load("greedy", 50, time_share=0.25), seconds=10, clock=1000)
    assert models(outcome)["greedy"].used["array"] == 10_000


def test_a_phase_is_when_the_first_frame_comes() -> None:
    late = Load("b", (array(4),), Fraction(1, 10), phase_seconds=Fraction(7))
    found = models(run(load("a", 2, period=10), late, seconds=30))
    assert (found["a"].released, found["b"].released) == (3, 3)
    # b's frames come at 7, 17 and 27; the last ends after the time.
    assert found["b"].latency == [4, 4]
    assert found["a"].latency == [2, 3, 3]
