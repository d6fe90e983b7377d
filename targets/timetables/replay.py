"""A timetable played over simulated time: what became of every frame, as policies' outcomes say.

Hyperperiod after hyperperiod begins at the tick after its moment. A frame that no chance asks for
leaves its slots empty, as do those that follow it. Late frames are done: their slots are there.
"""

from __future__ import annotations

import math
from fractions import Fraction

from motet.targets.sharing.arrivals import CHANCE, generator
from motet.targets.sharing.loads import Resource
from motet.targets.sharing.outcome import ModelOutcome, Outcome
from motet.targets.timetables.placing import Slot, Table


def replay(table: Table, seconds: Fraction, seed: int = 0) -> Outcome:
    """``seconds`` of simulated time; the same frames are asked for as under a policy."""
    problem = table.problem
    end = math.ceil(seconds * problem.clock_hz)
    rounds = math.ceil(seconds / problem.hyperperiod)
    outcomes = [ModelOutcome(load) for load in problem.loads]
    asked = [_asked(table, model, rounds, seed) for model in range(len(problem.loads))]
    for turn in range(rounds):
        begin = math.ceil(turn * problem.hyperperiod * problem.clock_hz)
        present: list[bool] = []
        for job, done in zip(problem.jobs, table.ends, strict=True):
            load = problem.loads[job.model]
            own = int((load.rate_hz or 0) * problem.hyperperiod)
            is_asked = asked[job.model][turn * own + job.frame]
            present.append(bool(is_asked) and all(present[source] for source in job.sources))
            if not present[-1] or begin + job.release >= end:
                present[-1] = False
                continue
            _count(outcomes[job.model], table, job.number, begin, end, done)
        for slot in table.slots:
            _use(outcomes, table, slot, begin, end, present)
    return Outcome(end, float(problem.clock_hz), tuple(outcomes))


def _asked(table: Table, model: int, rounds: int, seed: int) -> list[bool]:
    load = table.problem.loads[model]
    count = rounds * int((load.rate_hz or 0) * table.problem.hyperperiod)
    chances = generator(seed, load.name, CHANCE).random(count)
    return [bool(chance < load.probability) for chance in chances]


def _count(
    outcome: ModelOutcome, table: Table, number: int, begin: int, end: int, done: int
) -> None:
    """A frame that is asked for: what it comes to within the time."""
    job = table.problem.jobs[number]
    outcome.released += 1
    if begin + done > end:
        outcome.missed += begin + job.deadline <= end
        return
    outcome.latency.append(done - job.release)
    ready = max([job.release, *(table.ends[source] for source in job.sources)])
    outcome.turnaround.append(done - ready)
    outcome.late.append(done - job.deadline)
    outcome.missed += done > job.deadline


def _use(
    outcomes: list[ModelOutcome], table: Table, slot: Slot, begin: int, end: int,
    present: list[bool],
) -> None:  # fmt: skip
    """Ticks and energy of a slot; of a joint each present stage has its equal part."""
    problem = table.problem
    resource: Resource = "array" if slot.pods else "host"
    here = [n for n in slot.stages if present[problem.stages[n][0]]]
    used = max(0, min(begin + slot.start + slot.ticks, end) - (begin + slot.start))
    share = len(slot.pods) / problem.pods if slot.pods else 1.0
    for number in here:
        outcome = outcomes[problem.jobs[problem.stages[number][0]].model]
        outcome.used[resource] += round(used * share / len(slot.stages))
        if begin + slot.start + slot.ticks <= end:
            outcome.joules += slot.joules / len(slot.stages)
