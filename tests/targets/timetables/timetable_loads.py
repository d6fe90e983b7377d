"""Loads, problems and slots for tests of timetables: a tick is a second."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from motet.targets.sharing.loads import Load, Share, Stage
from motet.targets.timetables.jobs import Problem, problem
from motet.targets.timetables.placing import Slot, Table


def array(*ticks: int, joules: float = 0.0) -> Stage:
    """Ticks on 1, 2, 4, ... pods; alone: on the whole array."""
    shares = tuple(Share(1 << n, one, joules) for n, one in enumerate(ticks))
    return Stage("array", ticks[-1], joules, shares if len(ticks) > 1 else ())


def host(ticks: int) -> Stage:
    return Stage("host", ticks)


def load(name: str, *stages: Stage | int, period: Any, **keys: Any) -> Load:
    made = tuple(array(stage) if isinstance(stage, int) else stage for stage in stages)
    due = keys.pop("deadline", None)
    phase = Fraction(keys.pop("phase", 0))
    return Load(
        name, made, 1 / Fraction(period), None if due is None else Fraction(due),
        phase_seconds=phase, **keys,
    )  # fmt: skip


def make(*loads: Load, pods: int = 1, clock: Any = 1, **keys: Any) -> Problem:
    return problem(loads, Fraction(clock), pods, **keys)


def shown(table: Table) -> dict[str, list[tuple[int, int]]]:
    """Start and end of every stage's slot, by model, in time."""
    found: dict[str, list[tuple[int, int]]] = {}
    for slot in table.slots:
        for number in slot.stages:
            job, _ = table.problem.stages[number]
            name = table.problem.loads[table.problem.jobs[job].model].name
            found.setdefault(name, []).append((slot.start, slot.start + slot.ticks))
    return found


def pods_of(table: Table, model: str) -> list[range]:
    """Of every slot of a model on the array."""

    def is_its(slot: Slot) -> bool:
        jobs = [table.problem.jobs[table.problem.stages[n][0]] for n in slot.stages]
        return bool(slot.pods) and any(table.problem.loads[j.model].name == model for j in jobs)

    return [slot.pods for slot in table.slots if is_its(slot)]


@st.composite
def problems(
    draw: st.DrawFn, pods: int = 1, models: int = 3, periods: tuple[int, ...] = (8, 12, 24),
    longest: int = 5,
) -> Problem:  # fmt: skip
    """Few models with few stages; some follow others, some share the host."""
    found: list[Load] = []
    for number in range(draw(st.integers(1, models))):
        stages = []
        for _ in range(draw(st.integers(1, 2))):
            if draw(st.booleans()) or not stages:
                ticks = [draw(st.integers(1, longest))]
                for _ in range(pods.bit_length() - 1):
                    ticks.append(draw(st.integers((ticks[-1] + 1) // 2, ticks[-1])))
                stages.append(array(*ticks, joules=draw(st.sampled_from([0.0, 1.0]))))
            else:
                stages.append(host(draw(st.integers(0, longest))))
        period = draw(st.sampled_from(periods))
        after = ()
        if found and draw(st.integers(0, 2)) == 0:
            after = (draw(st.sampled_from([one.name for one in found])),)
        found.append(
            load(
                f"m{number}", *stages, period=period, after=after,
                deadline=draw(st.one_of(st.none(), st.integers(2, period))),
                priority=draw(st.integers(0, 1)),
                probability=draw(st.sampled_from([1.0, 0.5])) if after else 1.0,
            )
        )  # fmt: skip
    return make(*found, pods=pods)
