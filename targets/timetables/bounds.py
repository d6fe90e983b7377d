"""What no timetable is below, whatever the search.

* Utilisation: the least time that each resource needs for a hyperperiod's frames. A stage takes of
  the array at least its cheapest share's pods x ticks. What a joint saves on its two stages is
  taken half from each; and until its end each has all pods.
* Critical path: a frame's stages one after another at their fastest, after those it waits for; of a
  model with a share of the time also no sooner than what the stages before fill at the least leaks.
* Demand bound function (Baruah, Rosier and Howell, "Algorithms and complexity concerning the
  preemptive scheduling of periodic, real-time tasks on one processor", Real-Time Systems 2, 1990):
  what may neither begin before a nor end after b has to fit into b - a. Asked of every pair of
  moments with deadlines stretched by a factor, it gives the least largest share of a deadline that
  some frame must use; above 1 some frame is late.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motet.targets.sharing.loads import RESOURCES, Resource, Share, Stage
from motet.targets.timetables.buckets import room_of
from motet.targets.timetables.jobs import Job, Problem, shares_of

HALVINGS = 30
SMALL = 1e-6
MOST = 1e6
"""Of the largest share of a deadline that is looked for."""


@dataclass(frozen=True)
class Bounds:
    """At least so much, of every timetable that the times allow.

    utilisation: of array and host, 1 is all of the time. missed: frames. used: the largest share of
    its deadline that a frame uses. joules: of a hyperperiod. latencies: ticks of every model.
    """

    utilisation: dict[Resource, float]
    missed: int
    used: float
    joules: float
    latencies: tuple[int, ...]

    @property
    def overload(self) -> list[tuple[Resource, float]]:
        """Resources that are asked for more than all of their time, and how much, 1 is all."""
        return [(name, share) for name, share in self.utilisation.items() if share > 1]


def bounds(problem: Problem, whole_only: bool = False) -> Bounds:
    """The bounds of ``problem``. whole_only: of timetables in which a stage has all pods."""
    return _Bounds(problem, whole_only).found()


class _Bounds:
    def __init__(self, problem: Problem, whole_only: bool) -> None:
        self.problem, self.whole_only = problem, whole_only
        self.least = [[self._ticks(m, n) for n in self._numbers(m)] for m in self._models]
        self.area = [[self._area(m, n) for n in self._numbers(m)] for m in self._models]
        self.alone = [self._alone_ticks(model) for model in self._models]
        self.heads = self._heads()

    @property
    def _models(self) -> range:
        return range(len(self.problem.loads))

    def _numbers(self, model: int) -> range:
        return range(len(self.problem.loads[model].stages))

    def found(self) -> Bounds:
        """All of them."""
        latencies = [0] * len(self.problem.loads)
        used, late = 0.0, 0
        for job, head in zip(self.problem.jobs, self.heads, strict=True):
            alone = head + self.alone[job.model] - job.release
            latencies[job.model] = max(latencies[job.model], alone)
            used = max(used, alone / (job.deadline - job.release))
            late += alone > job.deadline - job.release
        for resource in RESOURCES:
            used = max(used, self._least_used(resource, used))
            late = max(late, self._late(resource))
        return Bounds(
            {name: self._utilisation(name) for name in RESOURCES},
            late, used, self._joules(), tuple(latencies),
        )  # fmt: skip

    def _shares(self, stage: Stage) -> Sequence[Share]:
        shares = shares_of(stage, self.problem.pods)
        whole = [share for share in shares if share.pods == self.problem.pods]
        return (whole or shares) if self.whole_only else shares

    def _ticks(self, model: int, number: int) -> int:
        stage = self.problem.loads[model].stages[number]
        if stage.resource == "host":
            return stage.ticks
        ends = [one.ticks for one in self._shares(stage)]
        for joint in () if self.whole_only else self.problem.joints:
            ends += [e for at, e in zip((joint.first, joint.second), joint.ends, strict=True)
                     if at == (model, number)]  # fmt: skip
        return min(ends)

    def _area(self, model: int, number: int) -> float:
        """Ticks of the host; pods x ticks of the array."""
        stage = self.problem.loads[model].stages[number]
        if stage.resource == "host":
            return stage.ticks
        own = self._alone(stage)
        best = float(own)
        for joint in () if self.whole_only else self.problem.joints:
            if (model, number) in (joint.first, joint.second):
                pair = (joint.first, joint.second)
                both = sum(self._alone(self.problem.loads[m].stages[n]) for m, n in pair)
                saved = both - max(joint.ends) * self.problem.pods
                end = joint.ends[(joint.first, joint.second).index((model, number))]
                best = min(best, own - saved / 2, end * self.problem.pods)
        return best

    def _alone_ticks(self, model: int) -> int:
        """A frame's, with the machine and its model's buckets empty before it."""
        load, least = self.problem.loads[model], self.least[model]
        begins: list[int] = []
        now = 0
        for number, stage in enumerate(load.stages):
            if load.time_share is not None and least[number]:
                filled = 0.0
                room = room_of(self.problem, load.time_share)
                for before in reversed(range(number)):
                    if load.stages[before].resource == stage.resource:
                        filled += self._fill(model, before)
                        leak = (filled - room) / load.time_share
                        now = max(now, begins[before] + math.ceil(leak - SMALL))
            begins.append(now)
            now += least[number]
        return now

    def _fill(self, model: int, number: int) -> float:
        """Ticks of the whole resource that a stage takes at the least."""
        stage = self.problem.loads[model].stages[number]
        if stage.resource == "host":
            return float(stage.ticks)
        joints = () if self.whole_only else self.problem.joints
        both = [one.ticks / 2 for one in joints if (model, number) in (one.first, one.second)]
        return min([self._alone(stage) / self.problem.pods, *both])

    def _alone(self, stage: Stage) -> int:
        return min(one.ticks * one.pods for one in self._shares(stage))

    def _joules(self) -> float:
        rest = (self.problem.rest_watts or 0.0) * float(self.problem.hyperperiod)
        total = 0.0
        for job in self.problem.jobs:
            for stage in self.problem.loads[job.model].stages:
                if stage.resource == "array":
                    total += min(one.joules for one in self._shares(stage))
        for joint in () if self.whole_only else self.problem.joints:
            pair = (joint.first, joint.second)
            stages = [self.problem.loads[m].stages[n] for m, n in pair]
            apart = sum(min(one.joules for one in self._shares(stage)) for stage in stages)
            frames = min(sum(j.model == m for j in self.problem.jobs) for m, _ in pair)
            total -= max(0.0, apart - joint.joules) * frames
        return total + rest

    def _utilisation(self, resource: Resource) -> float:
        total = sum(
            self.area[job.model][n]
            for job in self.problem.jobs
            for n, stage in enumerate(self.problem.loads[job.model].stages)
            if stage.resource == resource
        )
        return total / (self._capacity(resource) * self.problem.ticks)

    def _capacity(self, resource: Resource) -> int:
        return self.problem.pods if resource == "array" else 1

    def _heads(self) -> list[int]:
        """When every job could begin at the earliest."""
        ends: list[int] = []
        heads: list[int] = []
        for job in self.problem.jobs:
            head = max([job.release, *(ends[source] for source in job.sources)])
            heads.append(head)
            ends.append(head + self.alone[job.model])
        return heads

    def _dues(self, stretch: float, own: bool) -> list[float]:
        """By when every job has to end, for it and, unless ``own``, for those that wait for it."""
        dues = [job.release + stretch * (job.deadline - job.release) for job in self.problem.jobs]
        for job in () if own else reversed(self.problem.jobs):
            for source in job.sources:
                dues[source] = min(dues[source], dues[job.number] - sum(self.least[job.model]))
        return dues

    def _windows(
        self, resource: Resource, stretch: float, own: bool = False
    ) -> NDArray[np.float64]:
        """Heads, dues, needs and jobs of all stages, float64 [stages, 4]; twice where they wrap."""
        rows = []
        for job, head, due in zip(
            self.problem.jobs, self.heads, self._dues(stretch, own), strict=True
        ):
            rows += self._of_job(job, resource, head, due)
        found = np.array(rows, np.float64).reshape(-1, 4)
        if len(found) and found[:, 1].max() > self.problem.ticks:
            again = found.copy()
            again[:, :2] += self.problem.ticks
            again[:, 3] += len(self.problem.jobs)
            found = np.concatenate([found, again])
        return found

    def _of_job(
        self, job: Job, resource: Resource, head: float, due: float
    ) -> list[tuple[float, float, float, int]]:
        rows, at = [], head
        least = self.least[job.model]
        after = sum(least)
        for number, stage in enumerate(self.problem.loads[job.model].stages):
            after -= least[number]
            if stage.resource == resource:
                rows.append((at, due - after, self.area[job.model][number], job.number))
            at += least[number]
        return rows

    def _excess(self, rows: NDArray[np.float64], capacity: int) -> NDArray[np.float64]:
        """Demand beyond what windows [head, due] hold, float64 [heads, dues by rising due]."""
        by_due = rows[np.argsort(rows[:, 1], kind="stable")]
        heads = np.unique(rows[:, 0])
        inside = by_due[None, :, 0] >= heads[:, None]
        demand = np.cumsum(np.where(inside, by_due[None, :, 2], 0.0), axis=1)
        room = capacity * np.maximum(by_due[None, :, 1] - heads[:, None], 0.0)
        return np.asarray(np.where(inside, demand - room, -np.inf))

    def _fits(self, resource: Resource, stretch: float) -> bool:
        rows = self._windows(resource, stretch)
        if not len(rows):
            return True
        excess = self._excess(rows, self._capacity(resource))
        return bool(excess.max() <= 1e-6 * self.problem.ticks * 1e-3)

    def _least_used(self, resource: Resource, low: float) -> float:
        """The least stretch of all deadlines with which demand fits everywhere."""
        if self._fits(resource, low):
            return low
        high = max(2 * low, 1.0)
        while not self._fits(resource, high):
            low, high = high, 2 * high
            if high > MOST:
                return MOST
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if self._fits(resource, middle):
                high = middle
            else:
                low = middle
        return low

    def _late(self, resource: Resource) -> int:
        """Frames that have to be late for the others of the worst window to fit."""
        rows = self._windows(resource, 1.0, own=True)
        if not len(rows):
            return 0
        capacity = self._capacity(resource)
        excess = self._excess(rows, capacity)
        if excess.max() <= 0:
            return 0
        at, last = np.unravel_index(int(excess.argmax()), excess.shape)
        head = np.unique(rows[:, 0])[at]
        by_due = rows[np.argsort(rows[:, 1], kind="stable")][: last + 1]
        inside = by_due[by_due[:, 0] >= head]
        over, count = float(excess.max()), 0
        jobs = inside[:, 3].astype(np.int64)
        for need in sorted(np.bincount(jobs, inside[:, 2]), reverse=True):
            if over <= 1e-9:
                break
            over -= float(need)
            count += 1
        # A window of two hyperperiods may count a frame twice.
        return -(-count // 2) if jobs.max() >= len(self.problem.jobs) else count
