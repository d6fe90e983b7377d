"""List scheduling: whenever a resource is free, the waiting stage of the least key goes on.

Event by event from an empty machine, as the run time's policies do, each stage to its end. The
moments at which stages begin are an order that ``placing`` then improves by filling gaps: in it no
stage begins later than here. Stages of a model that is over its ``time_share`` let others go first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from motet.targets.timetables.buckets import leaks_of
from motet.targets.timetables.jobs import Job, Problem
from motet.targets.timetables.placing import Placer

Rule = Callable[[Problem, Job], tuple[float, ...]]


def by_deadline(problem: Problem, job: Job) -> tuple[float, ...]:
    """Earliest deadline first, then the largest priority."""
    return (job.deadline, -problem.loads[job.model].priority, job.release, job.number)


def by_release(problem: Problem, job: Job) -> tuple[float, ...]:
    """First come, first served."""
    del problem
    return (job.release, job.number)


def by_priority(problem: Problem, job: Job) -> tuple[float, ...]:
    """The largest priority, then the earliest deadline."""
    return (-problem.loads[job.model].priority, job.deadline, job.number)


def by_latest_start(problem: Problem, job: Job) -> tuple[float, ...]:
    """The one that has to begin first to be in time alone."""
    return (job.deadline - problem.loads[job.model].ticks, job.number)


RULES: tuple[Rule, ...] = (by_deadline, by_latest_start, by_release, by_priority)


def list_starts(placer: Placer, rule: Rule) -> list[float]:
    """When every stage begins; lanes as the placer has them, for layouts of fixed shares."""
    return _List(placer, rule).run()


class _List:
    def __init__(self, placer: Placer, rule: Rule) -> None:
        self.placer, self.problem = placer, placer.problem
        self.keys = [rule(self.problem, job) for job in self.problem.jobs]
        self.starts: list[float] = [0.0] * len(self.problem.stages)
        self.waiting: list[list[tuple[tuple[float, ...], int]]] = [[] for _ in range(placer.count)]
        self.busy = [False] * placer.count
        self.missing = [len(job.sources) for job in self.problem.jobs]
        self.events: list[tuple[int, int, int]] = []
        self.leaks = leaks_of(self.problem)

    def run(self) -> list[float]:
        for job in self.problem.jobs:
            if not job.sources:
                heapq.heappush(self.events, (job.release, 1, job.first))
        while self.events:
            now = self.events[0][0]
            while self.events and self.events[0][0] == now:
                _, kind, number = heapq.heappop(self.events)
                if kind == 0:
                    self._end(now, number)
                elif kind == 1:
                    self._ask(number)
            for lane in range(self.placer.count):
                self._serve(now, lane)
        return self.starts

    def _lane(self, number: int) -> tuple[int, int]:
        """The lane of a stage, and its ticks."""
        at, stage = self.problem.stages[number]
        model = self.problem.jobs[at].model
        made = self.problem.loads[model].stages[stage]
        if made.resource == "host":
            return 0, made.ticks
        lane = 1 if self.placer.layout_is_free else self.placer.lanes[model]
        return lane, self.placer.shares[model][stage].ticks

    def _ask(self, number: int) -> None:
        key = self.keys[self.problem.stages[number][0]]
        heapq.heappush(self.waiting[self._lane(number)[0]], (key, number))

    def _serve(self, now: int, lane: int) -> None:
        """The first that its model's share allows; else another event when it allows one."""
        if self.busy[lane]:
            return
        waiting = self.waiting[lane]
        held = []
        while waiting:
            entry = heapq.heappop(waiting)
            if self._earliest(now, entry[1]) > now:
                held.append(entry)
                continue
            self._begin(now, lane, entry[1])
            break
        for entry in held:
            heapq.heappush(waiting, entry)
        if held and not self.busy[lane]:
            at = min(self._earliest(now, number) for _, number in held)
            heapq.heappush(self.events, (at, 2, -1))

    def _earliest(self, now: int, number: int) -> int:
        leak = self.leaks.get(self.placer.taker(number)[:2]) if self.leaks else None
        return now if leak is None else leak.earliest(now)

    def _begin(self, now: int, lane: int, number: int) -> None:
        ticks = self._lane(number)[1]
        self.starts[number] = now
        self.busy[lane] = True
        heapq.heappush(self.events, (now + ticks, 0, number))
        if self.leaks and ticks:
            model, on_array, part = self.placer.taker(number)
            if (leak := self.leaks.get((model, on_array))) is not None:
                leak.take(now, ticks, part)

    def _end(self, now: int, number: int) -> None:
        self.busy[self._lane(number)[0]] = False
        job = self.problem.jobs[self.problem.stages[number][0]]
        if number + 1 < job.first + len(self.problem.loads[job.model].stages):
            self._ask(number + 1)
            return
        for follower in self.placer.followers[job.number]:
            self.missing[follower] -= 1
            if not self.missing[follower]:
                ready = max(now, self.problem.jobs[follower].release)
                heapq.heappush(self.events, (ready, 1, self.problem.jobs[follower].first))
