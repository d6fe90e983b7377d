"""Loads and settings for tests of shared machines: a tick is a second unless a test says more."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from motet.runtime.policies import policy_named
from motet.targets.sharing.arrivals import Arrivals
from motet.targets.sharing.engine import Setting, simulate
from motet.targets.sharing.loads import Load, Stage
from motet.targets.sharing.outcome import ModelOutcome, Outcome


def array(ticks: int, joules: float = 0.0) -> Stage:
    return Stage("array", ticks, joules)


def host(ticks: int) -> Stage:
    return Stage("host", ticks)


def load(name: str, *stages: Stage | int, period: Any = None, **keys: Any) -> Load:
    """``period`` and ``deadline`` in seconds; plain numbers are stages of the array."""
    made = tuple(array(stage) if isinstance(stage, int) else stage for stage in stages)
    rate = None if period is None else 1 / Fraction(period)
    deadline = keys.pop("deadline", None)
    due = None if deadline is None else Fraction(deadline)
    return Load(name, made, rate, due, **keys)


def run(
    *loads: Load,
    seconds: Any,
    policy: str = "fcfs",
    seed: int = 0,
    clock: int = 1,
    arrivals: Arrivals | None = None,
    drop_late: bool = True,
) -> Outcome:
    setting = Setting(
        policy_named(policy), Fraction(seconds), Fraction(clock), arrivals or Arrivals(), drop_late
    )
    return simulate(loads, setting, seed)


def models(outcome: Outcome) -> dict[str, ModelOutcome]:
    return {model.load.name: model for model in outcome.models}
