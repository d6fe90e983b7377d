"""The best timetable of a layout of fixed shares, by branch and bound over active schedules.

Giffler and Thompson ("Algorithms for solving production-scheduling problems", Operations Research
8, 1960): of all stages that could go next take the one that would end first; some stage that goes
next on its lane must begin before that end, so those are the branches. All schedules in which no
stage can begin earlier without another beginning later come up, and with them a best one for
every cost that later ends never lower.

Shares of the time: a stage begins no sooner than its model's bucket allows (``buckets``), and going
first may hold up another frame of the same model. So where the stage that would end first is of
such a model every stage that could go next is a branch: all orders come up, each stage as
early as its order allows. A timetable is then taken if its shares hold when it comes again.

Bounds of a branch: frames end no earlier than alone on the machine as it stands; of those left on
a lane at least as many are late as by Moore and Hodgson's rule, releases forgotten.

Timetables considered start every hyperperiod with an empty machine, so the search is for deadlines
within it; of frames that are late, which may go on in the next one, ``fewest_late`` says more.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from motet.targets.timetables.buckets import Leak, leaks_of
from motet.targets.timetables.jobs import Job, Problem
from motet.targets.timetables.placing import Cost, Placer, Table
from motet.targets.timetables.quotas import late_starts

MAX_NODES = 20_000


@dataclass(frozen=True)
class Searched:
    """The best that was found, None where nothing better than given; whether it is the best."""

    keys: list[float] | None
    complete: bool


def can_search(placer: Placer) -> bool:
    """Whether a layout is one that branch and bound knows, with deadlines in the hyperperiod."""
    inside = all(job.deadline <= placer.problem.ticks for job in placer.problem.jobs)
    return inside and not placer.layout_is_free and not placer.partners


def search(placer: Placer, best: Cost | None, max_nodes: int = MAX_NODES) -> Searched:
    """Orders (keys of stages) of a timetable of less cost than ``best``."""
    if not can_search(placer):
        return Searched(None, complete=False)
    tree = Tree(placer, best, max_nodes)
    tree.branch()
    return Searched(tree.found, tree.nodes <= max_nodes and not tree.turned_down)


@dataclass(eq=False)
class Tree:
    """A partial schedule: of every job how many stages have gone, of every lane when it is free."""

    placer: Placer
    best: Cost | None
    max_nodes: int
    nodes: int = 0
    found: list[float] | None = None
    turned_down: bool = False
    problem: Problem = field(init=False)

    def __post_init__(self) -> None:
        problem = self.problem = self.placer.problem
        self.lane: list[int] = []
        self.ticks: list[int] = []
        for job in problem.jobs:
            for at, stage in enumerate(problem.loads[job.model].stages):
                host = stage.resource == "host"
                self.lane.append(0 if host else self.placer.lanes[job.model])
                share = self.placer.shares[job.model][at]
                self.ticks.append(stage.ticks if host else share.ticks)
        self.count = [len(problem.loads[job.model].stages) for job in problem.jobs]
        self.level = [problem.levels.index(problem.loads[j.model].priority) for j in problem.jobs]
        self.done = [0] * len(problem.jobs)
        self.ready: list[int | None] = [None] * len(problem.jobs)
        self.free = [0] * self.placer.count
        self.starts = [0.0] * len(problem.stages)
        self.joules = self._table_joules()
        leaks = leaks_of(problem)
        takers = [self.placer.taker(number) for number in range(len(problem.stages))]
        self.parts = [part for _, _, part in takers]
        self.leaks: list[Leak | None] = [
            leaks.get((model, on_array)) if ticks else None
            for (model, on_array, _), ticks in zip(takers, self.ticks, strict=True)
        ]
        for job in problem.jobs:
            self.ready[job.number] = job.release

    def _table_joules(self) -> float:
        """The same in every branch: a layout fixes how stages are done."""
        table = Table(self.problem, (), ())
        spent = sum(
            self.placer.shares[job.model][at].joules
            if stage.resource == "array" else stage.joules
            for job in self.problem.jobs
            for at, stage in enumerate(self.problem.loads[job.model].stages)
        )  # fmt: skip
        return table.joules + spent

    def branch(self) -> None:
        """All that may follow what has gone so far."""
        self.nodes += 1
        if self.nodes > self.max_nodes:
            return
        bound, ends = self.bound()
        if max(ends) > self.problem.ticks or (self.best is not None and bound >= self.best):
            return
        choices = self.choices()
        if not choices:
            self._take(bound)
            return
        for number in choices:
            self.go(number)

    def _take(self, cost: Cost) -> None:
        """What was built is the best now, unless it cannot come again."""
        if any(self.leaks):
            table = self.placer.table(self.starts)
            if table is None or late_starts(self.problem, table.slots):
                self.turned_down = True
                return
        self.best, self.found = cost, list(self.starts)

    def choices(self) -> list[int]:
        """Jobs whose next stage may go next, the earliest deadline first."""
        going = self._going()
        if not going:
            return []
        end, _, chosen, first = min(going, key=lambda one: one[:3])
        lane, takes_time = self.lane[chosen], self.ticks[chosen] > 0
        any_of_them = self._may_hold_up(first, chosen)
        rivals = [
            job
            for _, start, stage, job in going
            if stage == chosen or any_of_them
            or (takes_time and self.ticks[stage] and self.lane[stage] == lane and start < end)
        ]  # fmt: skip
        return [j.number for j in sorted(rivals, key=lambda j: (j.deadline, j.number))]

    def first_to_end(self) -> int:
        """The job whose next stage would end first."""
        return min(self._going(), key=lambda one: one[:3])[3].number

    def _going(self) -> list[tuple[int, int, int, Job]]:
        """End, start and number of every stage that could go next, and its job."""
        going = []
        for job in self.problem.jobs:
            at = self.done[job.number]
            if at < self.count[job.number] and self._has_sources(job):
                stage = job.first + at
                start = self._start(job, stage)
                going.append((start + self.ticks[stage], start, stage, job))
        return going

    def _may_hold_up(self, job: Job, stage: int) -> bool:
        """Whether the stage fills a bucket that other frames need."""
        leak = self.leaks[stage]
        return leak is not None and any(
            self.leaks[number] is leak
            for other in self.problem.jobs
            if other.model == job.model and other is not job
            for number in range(
                other.first + self.done[other.number], other.first + self.count[other.number]
            )
        )

    def _start(self, job: Job, stage: int) -> int:
        """When a job's next stage could begin; one that takes no time needs no lane."""
        ready = max([self.ready[job.number] or 0, *((self.ready[s] or 0) for s in job.sources)])
        if not self.ticks[stage]:
            return ready
        start, leak = max(ready, self.free[self.lane[stage]]), self.leaks[stage]
        return start if leak is None else leak.earliest(start)

    def _has_sources(self, job: Job) -> bool:
        return all(self.done[s] == self.count[s] for s in job.sources)

    def go(self, number: int) -> None:
        """The branch in which a job's next stage goes next."""
        job = self.problem.jobs[number]
        stage = job.first + self.done[number]
        lane, before = self.lane[stage], self.ready[number]
        was = self.free[lane]
        begun = self._start(job, stage)
        self.starts[stage] = begun
        self.ready[number] = begun + self.ticks[stage]
        if self.ticks[stage]:
            self.free[lane] = begun + self.ticks[stage]
        leak = self.leaks[stage]
        held = None if leak is None else (leak.level, leak.since)
        if leak is not None:
            leak.take(begun, self.ticks[stage], self.parts[stage])
        self.done[number] += 1
        self.branch()
        self.done[number] -= 1
        self.ready[number], self.free[lane] = before, was
        if leak is not None and held is not None:
            leak.level, leak.since = held

    def bound(self) -> tuple[Cost, list[int]]:
        """What no timetable of this branch is below, and when every job ends at the earliest."""
        jobs = self.problem.jobs
        ends: list[int] = []
        missed = [0] * len(self.problem.levels)
        used, latency = 0.0, 0
        left: list[list[tuple[int, int, int]]] = [[] for _ in self.free]
        for job in jobs:
            end = self._alone(job, ends, left)
            ends.append(end)
            used = max(used, (end - job.release) / (job.deadline - job.release))
            latency += end - job.release
            if end > job.deadline:
                missed[self.level[job.number]] += 1
        for lane, stages in enumerate(left):
            for level, late in self._late(lane, stages).items():
                over = sum(
                    1 for j in jobs
                    if self.level[j.number] == level
                    and self.done[j.number] == self.count[j.number]
                    and ends[j.number] > j.deadline
                )  # fmt: skip
                missed[level] = max(missed[level], late + over)
        return (tuple(missed), used, round(self.joules, 15), latency), ends

    def _alone(self, job: Job, ends: list[int], left: list[list[tuple[int, int, int]]]) -> int:
        """The end of a job that nobody disturbs from now on; adds what it still needs."""
        if self.done[job.number] == self.count[job.number]:
            return self.ready[job.number] or 0
        at = max([self.ready[job.number] or 0, *(ends[s] for s in job.sources)])
        need: dict[int, int] = {}
        for stage in range(job.first + self.done[job.number], job.first + self.count[job.number]):
            if self.ticks[stage]:
                at = max(at, self.free[self.lane[stage]]) + self.ticks[stage]
            need[self.lane[stage]] = need.get(self.lane[stage], 0) + self.ticks[stage]
        for lane, ticks in need.items():
            left[lane].append((job.deadline, ticks, self.level[job.number]))
        return at

    def _late(self, lane: int, stages: list[tuple[int, int, int]]) -> dict[int, int]:
        """Of every level, how many of those left on a lane are late at least."""
        found = {}
        for level in {one[2] for one in stages}:
            now, late = self.free[lane], 0
            heap: list[int] = []
            for deadline, ticks, _ in sorted(one for one in stages if one[2] == level):
                heapq.heappush(heap, -ticks)
                now += ticks
                if now > deadline:
                    now += heapq.heappop(heap)
                    late += 1
            found[level] = late
        return found
