"""A better order of stages, and better shares, by local search.

From the orders of list scheduling on: a job that costs (over its share of the time, late, or the
one that uses the most of its deadline) goes before a job that lies in its way, or any job changes
place; where shares are free a model's number of pods changes, a joint is made or dissolved. What is
no worse is kept; after a while without gain the best is shaken. The random numbers have one seed
and the budget is counted, not timed: the same problem has the same timetable.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from motet.targets.timetables.jobs import Problem
from motet.targets.timetables.placing import Cost, Layout, Place, Placer, Table
from motet.targets.timetables.quotas import late_starts, rank

PLACEMENTS = 120_000
"""Stages that a search places in all: some seconds."""

SHAKEN_AFTER = 60
"""Tries without gain."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A timetable, and the layout and keys that make it."""

    layout: Layout
    keys: list[float]
    table: Table

    @cached_property
    def rank(self) -> tuple[int, Cost]:
        """Ticks that models are over their shares of the time, then the cost: the least is best."""
        return rank(self.table)


def placed(problem: Problem, layout: Layout, keys: Sequence[float]) -> Candidate | None:
    """The candidate of a layout and an order; None where a stage finds no place."""
    table = Placer(problem, layout).table(keys)
    return None if table is None else Candidate(layout, list(keys), table)


def improved(
    start: Candidate,
    counts: Sequence[int] = (),
    placements: int = PLACEMENTS,
    good_enough: Callable[[Table], bool] = lambda table: False,
) -> Candidate:
    """``start`` or better. counts: pods that a free place may have; none: layouts stay."""
    search = _Search(start, counts)
    tries = max(20, placements // max(1, len(start.table.problem.stages)))
    for _ in range(tries):
        if good_enough(search.best.table):
            break
        search.step()
    return search.best


def found_by_chance(
    problem: Problem, layouts: Sequence[Layout], placements: int = PLACEMENTS
) -> Candidate | None:
    """The first of random orders in which every stage finds a place, layouts in turn, or None."""
    chance = random.Random(0)
    placers = [Placer(problem, layout) for layout in layouts]
    for number in range(max(20, placements // max(1, len(problem.stages)))):
        placer = placers[number % len(placers)]
        late = [chance.random() * problem.ticks for _ in problem.jobs]
        keys = [problem.jobs[job].release + late[job] + stage for job, stage in problem.stages]
        if (table := placer.table(keys)) is not None:
            return Candidate(placer.layout, keys, table)
    return None


class _Search:
    def __init__(self, start: Candidate, counts: Sequence[int]) -> None:
        self.best = self.now = start
        self.problem = start.table.problem
        self.counts = list(counts)
        self.random = random.Random(0)
        self.idle = 0
        self.placers: dict[Layout, Placer] = {}

    def step(self) -> None:
        layout, keys = self._moved()
        if layout not in self.placers:
            self.placers[layout] = Placer(self.problem, layout)
        table = self.placers[layout].table(keys)
        self.idle += 1
        made = None if table is None else Candidate(layout, keys, table)
        if made is not None and made.rank <= self.now.rank:
            if made.rank < self.now.rank:
                self.idle = 0
            self.now = made
            if made.rank < self.best.rank:
                self.best = made
        if self.idle > SHAKEN_AFTER:
            self._shake()

    def _shake(self) -> None:
        """On from the best with a few jobs anywhere."""
        self.idle = 0
        keys = list(self.best.keys)
        for _ in range(3):
            self._move(keys, self.random.randrange(len(self.problem.jobs)), None)
        table = self.placers.setdefault(
            self.best.layout, Placer(self.problem, self.best.layout)
        ).table(keys)
        self.now = self.best if table is None else Candidate(self.best.layout, keys, table)

    def _moved(self) -> tuple[Layout, list[float]]:
        keys, layout = list(self.now.keys), self.now.layout
        if self.counts and self.random.random() < 0.4:
            return self._changed(layout), keys
        if self.random.random() < 0.7:
            job = self._worst()
            self._move(keys, job, self._in_the_way(job))
        else:
            self._move(keys, self.random.randrange(len(self.problem.jobs)), None)
        return layout, keys

    def _changed(self, layout: Layout) -> Layout:
        joints = len(self.problem.joints)
        if joints and self.random.random() < 0.3:
            return replace(layout, fused=layout.fused ^ {self.random.randrange(joints)})
        model = self.random.randrange(len(layout.places))
        places = list(layout.places)
        places[model] = Place(self.random.choice(self.counts))
        return replace(layout, places=tuple(places))

    def _worst(self) -> int:
        """A job over its model's share, else a late one, or what uses the most of its deadline."""
        table = self.now.table
        if self.now.rank[0]:
            over = {self.problem.stages[n][0] for _, n, _ in late_starts(self.problem, table.slots)}
            return self.random.choice(sorted(over))
        used = [
            (end - job.release) / (job.deadline - job.release)
            for job, end in zip(self.problem.jobs, table.ends, strict=True)
        ]
        late = [number for number, share in enumerate(used) if share > 1]
        return self.random.choice(late) if late else used.index(max(used))

    def _in_the_way(self, number: int) -> int | None:
        """A job that has a slot between the release and the end of job ``number``."""
        job, end = self.problem.jobs[number], self.now.table.ends[number]
        others = {
            self.problem.stages[stage][0]
            for slot in self.now.table.slots
            if slot.start < end and slot.start + slot.ticks > job.release
            for stage in slot.stages
        } - {number}
        return self.random.choice(sorted(others)) if others else None

    def _move(self, keys: list[float], number: int, before: int | None) -> None:
        """All stages of a job, and of those that it waits for, just before another job."""
        jobs = self.problem.jobs
        other = jobs[self.random.randrange(len(jobs)) if before is None else before]
        key = min(keys[n] for n in self._stages(other.number))
        chain = [number, *jobs[number].sources] if before is not None else [number]
        for job in chain:
            for stage in self._stages(job):
                keys[stage] = min(keys[stage], key - 0.5) if before is not None else key - 0.5

    def _stages(self, number: int) -> range:
        job = self.problem.jobs[number]
        return range(job.first, job.first + len(self.problem.loads[job.model].stages))
