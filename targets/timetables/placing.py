"""Stages to slots: a layout says who may have which pods, an order who is placed first.

Every stage, in the order given, gets the earliest place on the ring from when it is ready on
where all that it needs is free, gaps between what lies there already included (a serial
schedule generation scheme). So a stage that comes early in the order breaks up later ones only at
the boundaries of their stages. A model with a ``time_share`` waits, besides, until its bucket
allows the stage (``buckets``); where it never does, the stage goes where pods are free, and the
timetable is one over the share (``quotas.rank``).

**Cost**, compared from left to right: (1) frames that miss their deadline, by priority, the most
urgent first; (2) the largest share of its deadline that a frame uses, (end - release) /
(deadline - release), above 1 where it is late; (3) energy; (4) the sum of all latencies.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from motet.targets.sharing.loads import Share, Stage
from motet.targets.timetables.buckets import Taker, buckets_of
from motet.targets.timetables.jobs import Joint, Problem, shares_of
from motet.targets.timetables.machine import Machine
from motet.targets.timetables.timeline import Ring

Cost = tuple[tuple[int, ...], float, float, int]


@dataclass(frozen=True)
class Place:
    """Pods that a model's stages may have: ``pods`` of them from ``first`` on, anywhere if None."""

    pods: int
    first: int | None = None


@dataclass(frozen=True)
class Layout:
    """places: of every load. fused: numbers of the problem's joints that are made use of."""

    places: tuple[Place, ...]
    fused: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Slot:
    """Stages, by number, that have a resource together from ``start`` on; more than one: a joint.

    pods: none for the host.
    """

    stages: tuple[int, ...]
    start: int
    ticks: int
    pods: range
    joules: float = 0.0


@dataclass(frozen=True, eq=False)
class Table:
    """A timetable of a problem: slots by start; ends: of every job, in ticks."""

    problem: Problem
    slots: tuple[Slot, ...]
    ends: tuple[int, ...]

    @cached_property
    def cost(self) -> Cost:
        """As the module says."""
        jobs, levels = self.problem.jobs, self.problem.levels
        missed = [0] * len(levels)
        used = 0.0
        for job, end in zip(jobs, self.ends, strict=True):
            if end > job.deadline:
                missed[levels.index(self.problem.loads[job.model].priority)] += 1
            used = max(used, (end - job.release) / (job.deadline - job.release))
        latency = sum(end - job.release for job, end in zip(jobs, self.ends, strict=True))
        return tuple(missed), used, self.joules, latency

    @property
    def joules(self) -> float:
        """Energy of a hyperperiod: the stages', and the array's at rest."""
        rest = (self.problem.rest_watts or 0.0) * float(self.problem.hyperperiod)
        return round(sum(slot.joules for slot in self.slots) + rest, 15)

    @property
    def missed(self) -> int:
        """Frames that end after their deadline."""
        return sum(self.cost[0])


@dataclass(eq=False)
class Placer:
    """Places stages of a problem under one layout, by any number of orders."""

    problem: Problem
    layout: Layout
    lanes: list[int] = field(init=False, default_factory=list)
    _known_firsts: dict[int, list[int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """The host is lane 0; fixed shares have a lane each, else every pod has one."""
        self.layout_is_free = any(place.first is None for place in self.layout.places)
        self.count = 1 + self.problem.pods
        if not self.layout_is_free:
            regions = sorted({(p.first or 0, p.pods) for p in self.layout.places})
            self.lanes = [regions.index((p.first or 0, p.pods)) + 1 for p in self.layout.places]
            self.count = 1 + len(regions)
        self.shares = [
            [_share(stage, self.problem, place.pods) for stage in load.stages]
            for load, place in zip(self.problem.loads, self.layout.places, strict=True)
        ]
        self.partners = _partners(self.problem, self.layout.fused)

    def table(self, keys: Sequence[float]) -> Table | None:
        """The timetable in which ready stages go by rising key; None where one finds no place."""
        machine = Machine(Ring(self.count, self.problem.ticks), buckets_of(self.problem))
        ends: dict[int, int] = {}
        slots: list[Slot] = []
        for number in self.order(keys):
            if number in ends:
                continue
            slot = self._placed(machine, number, ends)
            if slot is None:
                return None
            slots.append(slot)
        jobs = self.problem.jobs
        last = [job.first + len(self.problem.loads[job.model].stages) - 1 for job in jobs]
        slots.sort(key=lambda slot: (slot.start, slot.stages))
        return Table(self.problem, tuple(slots), tuple(ends[number] for number in last))

    def taker(self, number: int) -> tuple[int, bool, float]:
        """A stage's model, whether it is of the array, and the part of the resource that it has."""
        at, stage = self.problem.stages[number]
        model = self.problem.jobs[at].model
        if self.problem.loads[model].stages[stage].resource == "host":
            return model, False, 1.0
        own = self.shares[model][stage].pods
        pods = own if self.layout_is_free else self.layout.places[model].pods
        return model, True, pods / self.problem.pods

    def order(self, keys: Sequence[float]) -> list[int]:
        """Numbers of the stages: of those whose sources have gone, the least key."""
        jobs, stages = self.problem.jobs, self.problem.stages
        missing = [len(job.sources) for job in jobs]
        heap = [(keys[job.first], job.first) for job in jobs if not job.sources]
        heapq.heapify(heap)
        found = []
        while heap:
            number = heapq.heappop(heap)[1]
            found.append(number)
            job = jobs[stages[number][0]]
            if number + 1 < job.first + len(self.problem.loads[job.model].stages):
                heapq.heappush(heap, (keys[number + 1], number + 1))
                continue
            for follower in self.followers[job.number]:
                missing[follower] -= 1
                if not missing[follower]:
                    begin = jobs[follower].first
                    heapq.heappush(heap, (keys[begin], begin))
        return found

    @cached_property
    def followers(self) -> list[list[int]]:
        """Of every job, those that wait for it."""
        found: list[list[int]] = [[] for _ in self.problem.jobs]
        for job in self.problem.jobs:
            for source in job.sources:
                found[source].append(job.number)
        return found

    def _ready(self, number: int, ends: Mapping[int, int]) -> int | None:
        """When the stage could begin; None while one before it has no place."""
        at, stage = self.problem.stages[number]
        job = self.problem.jobs[at]
        if stage:
            return ends.get(number - 1)
        ready = job.release
        for source in job.sources:
            before = self.problem.jobs[source]
            end = ends.get(before.first + len(self.problem.loads[before.model].stages) - 1)
            if end is None:
                return None
            ready = max(ready, end)
        return ready

    def _placed(self, machine: Machine, number: int, ends: dict[int, int]) -> Slot | None:
        ready = self._ready(number, ends)
        assert ready is not None
        at, stage = self.problem.stages[number]
        model = self.problem.jobs[at].model
        load = self.problem.loads[model]
        if load.stages[stage].resource == "host":
            ticks = load.stages[stage].ticks
            found = machine.place((0,), 1, ready, ticks, self._takers(machine, number))
            if found is None:
                return None
            ends[number] = found[0] + ticks
            return Slot((number,), found[0], ticks, range(0))
        if number in self.partners:
            other, joint, turned = self.partners[number]
            also = self._ready(other, ends)
            if also is not None and other not in ends:
                both = number, other
                return self._together(machine, both, max(ready, also), joint, turned, ends)
        return self._alone(machine, number, ready, self.shares[model][stage], model, ends)

    def _alone(
        self, machine: Machine, number: int, ready: int, share: Share, model: int,
        ends: dict[int, int],
    ) -> Slot | None:  # fmt: skip
        place = self.layout.places[model]
        pods = share.pods if self.layout_is_free else place.pods
        takers = self._takers(machine, number)
        if self.layout_is_free:
            found = machine.place(self._firsts(pods), pods, ready, share.ticks, takers)
        else:
            found = machine.place((self.lanes[model],), 1, ready, share.ticks, takers)
        if found is None:
            return None
        start, lane = found
        first = lane - 1 if self.layout_is_free else place.first or 0
        ends[number] = start + share.ticks
        return Slot((number,), start, share.ticks, range(first, first + pods), share.joules)

    def _takers(self, machine: Machine, number: int) -> list[Taker]:
        return machine.takers(*self.taker(number)) if machine.buckets else []

    def _firsts(self, pods: int) -> list[int]:
        """First lanes of a share: multiples of its pods are preferred where equal."""
        if pods not in self._known_firsts:
            last = self.problem.pods - pods
            firsts = [*range(0, last + 1, pods), *([last] if last % pods else [])]
            self._known_firsts[pods] = [1 + first for first in firsts]
        return self._known_firsts[pods]

    def _together(
        self, machine: Machine, numbers: tuple[int, int], ready: int, joint: Joint, turned: bool,
        ends: dict[int, int],
    ) -> Slot | None:  # fmt: skip
        models = {self.problem.jobs[self.problem.stages[number][0]].model for number in numbers}
        takers = [one for model in sorted(models) for one in machine.takers(model, True, 0.5)]
        found = machine.place((1,), self.count - 1, ready, joint.ticks, takers)
        if found is None:
            return None
        done = joint.ends[::-1] if turned else joint.ends
        for number, after in zip(numbers, done, strict=True):
            ends[number] = found[0] + after
        pods = range(self.problem.pods)
        return Slot(tuple(sorted(numbers)), found[0], joint.ticks, pods, joint.joules)


def _share(stage: Stage, problem: Problem, most: int) -> Share:
    """How a stage is done on at most ``most`` pods: the fastest, then with the least energy.

    Where it does not fit so few pods it takes longer than there is.
    """
    if stage.resource == "host":
        return Share(0, stage.ticks, stage.joules)
    shares = [share for share in shares_of(stage, problem.pods) if share.pods <= most]
    if not shares:
        return Share(most, problem.ticks + 1)
    return min(shares, key=lambda share: (share.ticks, share.joules, share.pods))


def _partners(problem: Problem, fused: frozenset[int]) -> dict[int, tuple[int, Joint, bool]]:
    """Of stages that are run with another: that one, how, and whether it is the joint's first."""
    found: dict[int, tuple[int, Joint, bool]] = {}
    by_frame = {(job.model, job.release): job for job in reversed(problem.jobs)}
    for number in sorted(fused):
        joint = problem.joints[number]
        for job in problem.jobs:
            other = by_frame.get((joint.second[0], job.release))
            if job.model != joint.first[0] or other is None:
                continue
            one, two = job.first + joint.first[1], other.first + joint.second[1]
            if one not in found and two not in found:
                found[one], found[two] = (two, joint, False), (one, joint, True)
    return found
