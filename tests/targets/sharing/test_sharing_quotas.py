"""Models that share pods and have a share of the time: others go first."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from sharing_loads import load, models

from motet.runtime.policies import policy_named
from motet.targets.sharing.engine import Setting, simulate
from motet.targets.sharing.loads import Load, Share, Stage
from motet.targets.sharing.outcome import ModelOutcome
from motet.targets.sharing.side_by_side import SideBySide


def stage(*ticks: int) -> Stage:
    """Ticks on 1, 2, 4 pods."""
    shares = tuple(Share(1 << n, one, 1.0) for n, one in enumerate(ticks))
    return Stage("array", ticks[-1], 1.0, shares)


def shared(*loads: Load) -> dict[str, ModelOutcome]:
    setting = Setting(policy_named("priority"), Fraction(400), Fraction(1), drop_late=False, pods=4)
    return models(simulate(loads, setting, kind=SideBySide))


def test_a_model_over_its_share_waits_while_others_wait() -> None:
    """Each takes 2 ticks on all pods; the greedy one asks for all of the array and goes first."""
    greedy = replace(load("greedy", stage(8, 4, 2), period=2), priority=5)
    other = load("other", stage(8, 4, 2), period=4, deadline=9)
    free = shared(greedy, other)
    assert free["other"].finished == 0
    held = shared(replace(greedy, time_share=0.25), other)
    assert held["other"].missed == 0
    assert held["other"].finished == 100
    assert held["greedy"].used["array"] > 150  # what the other leaves, not its share alone


def test_a_share_that_is_not_used_up_changes_nothing() -> None:
    one = load("one", stage(8, 4, 2), period=8)
    other = load("other", stage(8, 4, 2), period=8)
    whole = shared(one, other)
    held = shared(replace(one, time_share=1.0), other)
    assert [held[name].latency for name in held] == [whole[name].latency for name in whole]
