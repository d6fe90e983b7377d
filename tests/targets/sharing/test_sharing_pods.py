"""Shares of pods that move with load: dealt by hand, and laws of the simulation."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sharing_loads import host, load, models

from motet.runtime.policies import policy_named
from motet.targets.sharing import side_by_side
from motet.targets.sharing.arrivals import Arrivals
from motet.targets.sharing.deal import Dealt, deal, fitted, free_runs
from motet.targets.sharing.engine import Setting, simulate
from motet.targets.sharing.frames import Frame
from motet.targets.sharing.loads import Load, Share, Stage
from motet.targets.sharing.lookahead import Expected, Move, Task, judged
from motet.targets.sharing.outcome import Outcome


def shares(*ticks: int) -> tuple[Share, ...]:
    """Ticks on 1, 2, 4, ... pods."""
    return tuple(Share(1 << n, one, 1.0) for n, one in enumerate(ticks))


def stage(*ticks: int) -> Stage:
    return Stage("array", ticks[-1], 1.0, shares(*ticks))


def run(*loads: Load, seconds: Any, pods: int = 4, policy: str = "edf", **keys: Any) -> Outcome:
    setting = Setting(
        policy_named(policy), Fraction(seconds), Fraction(1), keys.pop("arrivals", Arrivals()),
        pods=pods, **keys,
    )  # fmt: skip
    return simulate(loads, setting, kind=side_by_side.SideBySide)


def expected(deadline: int | None, *ticks: int, ready: int = 0) -> Expected:
    key = (float("inf") if deadline is None else float(deadline),)
    return Expected(key, (Task(ticks[-1], shares(*ticks)),), ready, deadline)


def test_a_frame_alone_has_all_pods() -> None:
    outcome = run(load("a", stage(8, 4, 2), period=10), seconds=100)
    a = models(outcome)["a"]
    assert a.latency == [2] * 10
    assert a.used["array"] == 20


def test_a_long_stage_leaves_pods_for_an_urgent_frame_that_is_about_to_come() -> None:
    # On all pods "long" is at it from 0 to 20; "quick", every 5 and due 4 later, would be late
    # three times in four. On two pods long takes 30 of its 40, and quick its 3 on the others.
    long = load("long", stage(60, 30, 20), period=40)
    quick = load("quick", stage(4, 3, 2), period=5, deadline=4)
    alone = simulate(
        (long, quick), Setting(policy_named("edf"), Fraction(400), Fraction(1), drop_late=False)
    )
    shared = run(long, quick, seconds=400)
    assert models(alone)["quick"].missed > 20
    assert models(shared)["quick"].missed <= 1
    assert models(shared)["long"].missed == 0


def test_two_that_are_both_late_in_turn_go_side_by_side() -> None:
    frames = [expected(6, 6, 5, 4), expected(6, 6, 6, 5)]
    # In turn they end at 4 and 9; on two pods each at 5 and 6.
    dealt = deal(frames, [0, 1], 4, 0, [])
    assert dealt == [Dealt(0, 0, Share(2, 5, 1.0)), Dealt(1, 2, Share(2, 6, 1.0))]


def test_it_waits_for_pods_where_few_are_too_slow() -> None:
    # One pod is free, three are until 2: alone it would take 40 there, from 2 on 10.
    frames = [expected(14, 40, 20, 10), expected(None, 2, 2, 2)]
    busy = [((0, 3), Move(1, Share(3, 2), 2))]
    assert deal(frames, [0], 4, 0, busy) == []


def test_a_rollout_by_hand() -> None:
    frames = [expected(4, 8, 6, 4), expected(5, 6, 4, 3), expected(9, 3, 2, 2, ready=2)]
    whole = Move(0, Share(4, 4), 4)
    # [0, 4) the first, [4, 7) the second, late, [7, 9) the third.
    assert judged(frames, 4, 0, [whole]) == (1.0, 4 + 7 + 9)
    halves = [Move(0, Share(2, 6), 6), Move(1, Share(2, 4), 4)]
    # The third waits for 4 on two pods: to 6.
    assert judged(frames, 4, 0, halves) == (1.0, 6 + 4 + 6)
    chance = [frames[0], replace(frames[1], weight=0.25, sources=(0,)), frames[2]]
    assert judged(chance, 4, 0, [whole]) == (0.25, 4 + 0.25 * 7 + 9)
    given_up = [frames[0], replace(frames[1], deadline=3, dropped=True)]
    assert judged(given_up, 4, 0, [whole]) == (1.0, 4)


def test_places() -> None:
    assert free_runs(8, []) == [(0, 8)]
    assert free_runs(8, [(0, 8)]) == []
    assert free_runs(8, [(2, 3), (5, 8)]) == [(0, 2), (3, 5)]
    assert fitted([(0, 3), (4, 6)], 2) == 4
    assert fitted([(0, 3), (4, 6)], 4) is None


@st.composite
def bundles(draw: st.DrawFn) -> list[Load]:
    found: list[Load] = []
    for number in range(draw(st.integers(1, 4))):
        stages = []
        for _ in range(draw(st.integers(1, 2))):
            ticks = [draw(st.integers(1, 9))]
            for _ in range(2):
                ticks.append(draw(st.integers((ticks[-1] + 1) // 2, ticks[-1])))
            stages.append(draw(st.sampled_from([host(draw(st.integers(0, 3))), stage(*ticks)])))
        paced = [one.name for one in found if one.rate_hz is not None]
        after = (draw(st.sampled_from(paced)),) if paced and draw(st.booleans()) else ()
        period = draw(st.sampled_from(["5", "7", "20"]))
        found.append(
            load(
                f"m{number}", *stages, period=period, after=after,
                deadline=draw(st.sampled_from([None, "4", "30"])),
                probability=draw(st.sampled_from([1.0, 0.5])) if after else 1.0,
            )
        )  # fmt: skip
    return found


@settings(deadline=None, max_examples=100)
@given(
    bundles(), st.integers(1, 150), st.sampled_from(["edf", "fcfs"]), st.booleans(),
    st.sampled_from(["periodic", "poisson"]),
)  # fmt: skip
def test_nothing_is_lost_and_no_pod_has_two(
    drawn: list[Load], seconds: int, policy: str, drop: bool, kind: str
) -> None:
    begin = side_by_side.SideBySide._begin

    def watched(self: Any, now: int, frame: Frame, dealt: Dealt) -> None:
        pods = set(range(dealt.first, dealt.first + dealt.share.pods))
        assert pods <= set(range(4))
        for one in self.running.values():
            assert not pods & set(range(*one.pods))
        begin(self, now, frame, dealt)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(side_by_side.SideBySide, "_begin", watched)
        asked: Any = {"seconds": seconds, "policy": policy, "drop_late": drop}
        outcome = run(*drawn, arrivals=Arrivals(kind), **asked)
    assert 0 <= outcome.busy("array") <= 1 + 1e-9 + len(drawn) / seconds
    for model in outcome.models:
        own = model.load
        assert model.finished + model.dropped + model.unfinished == model.released
        assert model.unfinished >= 0
        assert drop or not model.dropped
        assert all(ticks >= own.ticks for ticks in model.turnaround)
    again = run(*drawn, arrivals=Arrivals(kind), **asked)
    for one, other in zip(outcome.models, again.models, strict=True):
        assert vars(one) == {**vars(other), "load": one.load}


def test_with_one_pod_it_is_the_plain_policy() -> None:
    loads = (load("a", 3, period=7), load("b", 5, period=20, deadline=9))
    plain = simulate(loads, Setting(policy_named("edf"), Fraction(140), Fraction(1)))
    shared = run(*loads, seconds=140, pods=1)
    for one, other in zip(plain.models, shared.models, strict=True):
        assert (one.latency, one.missed, one.dropped) == (
            other.latency, other.missed, other.dropped,
        )  # fmt: skip


def test_a_model_beyond_its_share_of_the_time_gives_way() -> None:
    # "greedy", due first, would always go first; its share is a tenth of the array.
    greedy = load("greedy", stage(9, 9, 9), period=9, time_share=0.1)
    other = load("other", stage(9, 9, 9), period=9, deadline=100)
    free = replace(greedy, time_share=None)
    held = models(run(greedy, other, seconds=900, pods=1, drop_late=False))
    unheld = models(run(free, other, seconds=900, pods=1, drop_late=False))
    assert unheld["other"].finished < held["other"].finished
    assert held["greedy"].finished < unheld["greedy"].finished
