"""Which of the waiting jobs goes next: plain orders, for the run time and the simulation alike.

A job is one run of one model. Whenever a machine is free, and whenever a job comes to the end
of a stage, the job whose key is smallest goes on: so jobs are broken off at the boundaries of
their stages and nowhere else. A key holds only what is fixed when a job is released, so the
order of two jobs never changes while they wait, and it ends in the job's number: no two jobs
are equal, and the same jobs always go in the same order.

``priority`` with priorities that are all equal is ``fcfs``. ``edf`` is optimal on one machine that
may be taken away at any moment (Liu and Layland, "Scheduling algorithms for multiprogramming
in a hard-real-time environment", 1973); a stage that has begun puts others off by its length.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from motet.runtime.errors import SpecError

Key = tuple[float, ...]
"""What a policy orders by; smaller goes first. Integers stay integers, of any size."""


class Job(Protocol):
    """What a policy may look at. Moments are on one clock, in any unit."""

    @property
    def model(self) -> str:
        """The model that runs."""

    @property
    def number(self) -> int:
        """Of the release, counted over all models."""

    @property
    def release(self) -> float:
        """Moment of the release."""

    @property
    def deadline(self) -> float | None:
        """Moment by which it should end; None: there is none."""

    @property
    def priority(self) -> int:
        """Larger is more urgent."""

    @property
    def stage(self) -> int:
        """Index of the next stage."""


@dataclass(frozen=True)
class Policy:
    """An order of jobs: its name, what it does in a line, and its key."""

    name: str
    summary: str
    key: Callable[[Job], Key]


def _by_release(job: Job) -> Key:
    return (job.release, job.number)


def _by_priority(job: Job) -> Key:
    return (-job.priority, job.release, job.number)


def _by_deadline(job: Job) -> Key:
    deadline = math.inf if job.deadline is None else job.deadline
    return (deadline, -job.priority, job.release, job.number)


POLICIES = {
    policy.name: policy
    for policy in (
        Policy("fcfs", "the job that was released first", _by_release),
        Policy("priority", "the largest priority, then the first released", _by_priority),
        Policy("edf", "the earliest deadline, then the largest priority", _by_deadline),
    )
}
"""By name."""

DEFAULT_POLICY = "priority"

LEAST_PRIORITY, MOST_PRIORITY = -1000, 1000
"""What a priority may be, in a specification and in ``submit``."""


def policy_named(name: str) -> Policy:
    """The policy ``name``; raises ``SpecError`` where there is none."""
    try:
        return POLICIES[name]
    except (KeyError, TypeError):
        raise SpecError(f"no policy {name!r}: choose one of {', '.join(POLICIES)}") from None


JobType = TypeVar("JobType", bound=Job)


class ReadyQueue(Generic[JobType]):
    """Jobs that could go on, in a policy's order. Not for several threads at once.

    Adding, and taking the first, take time logarithmic in the jobs; a removed job leaves the heap
    when it comes to its front.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._heap: list[tuple[Key, int, JobType]] = []
        self._members: dict[int, JobType] = {}
        self._count = itertools.count()

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[JobType]:
        """The jobs in the order in which they were added."""
        return iter(self._members.values())

    def __contains__(self, job: JobType) -> bool:
        return job.number in self._members

    def add(self, job: JobType) -> None:
        """``job`` waits; its number must be no waiting job's."""
        assert job.number not in self._members
        self._members[job.number] = job
        heapq.heappush(self._heap, (self.policy.key(job), next(self._count), job))

    def remove(self, job: JobType) -> None:
        """``job``, which waits, does so no longer."""
        del self._members[job.number]
        if self._heap[0][2] is job:
            heapq.heappop(self._heap)
        elif 2 * len(self._members) < len(self._heap):
            self._heap = [e for e in self._heap if self._waits(e[2])]
            heapq.heapify(self._heap)

    def _waits(self, job: JobType) -> bool:
        return self._members.get(job.number) is job

    def first(self, may_go: Callable[[JobType], bool] | None = None) -> JobType | None:
        """The job that goes first among those that ``may_go``; it stays. None: there is none."""
        if may_go is None:
            return self._front()
        passed: list[tuple[Key, int, JobType]] = []
        found = None
        while self._heap:
            job = self._heap[0][2]
            if not self._waits(job):
                heapq.heappop(self._heap)
            elif may_go(job):
                found = job
                break
            else:
                passed.append(heapq.heappop(self._heap))
        for entry in passed:
            heapq.heappush(self._heap, entry)
        return found

    def _front(self) -> JobType | None:
        heap, members = self._heap, self._members
        while heap:
            job = heap[0][2]
            if members.get(job.number) is job:
                return job
            heapq.heappop(heap)
        return None

    def take(self, may_go: Callable[[JobType], bool] | None = None) -> JobType | None:
        """As ``first``, and the job does not wait any more."""
        job = self.first(may_go)
        if job is not None:
            self.remove(job)
        return job
