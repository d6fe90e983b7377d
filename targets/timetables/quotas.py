"""Shares of the time in timetables: no stage of a model begins while the model is over its share.

As with policies (``runtime/time_shares.py``), what a model's stages take of a resource fills a
bucket, k of P pods as k/P of the array, which leaks at its ``time_share``; a bucket with more than
``WINDOW_SECONDS`` of the share is over it. So in any time T a model has at most
``share * (T + WINDOW_SECONDS)`` of a resource, and the stage that it had begun. Policies let a
model have more where nobody else wants it; a timetable, which is fixed before, does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from motet.runtime.errors import SpecError
from motet.runtime.time_shares import WINDOW_SECONDS
from motet.targets.sharing.asked import share_text
from motet.targets.sharing.loads import RESOURCES, Resource
from motet.targets.timetables.jobs import Problem, shares_of
from motet.targets.timetables.placing import Slot, Table

ROUNDS = 2
"""Hyperperiods until buckets come again: from the second on each begins as the one before."""

SMALL = 1e-6
"""Ticks by which sums may be off."""

REMEDY = "give it a lower rate_hz or a larger quota.time_share"


def refuse_demand(problem: Problem) -> None:
    """Raise ``SpecError`` where a model's frames ask for more than its share, however placed."""
    for model, load in enumerate(problem.loads):
        if load.time_share is None:
            continue
        frames = sum(job.model == model for job in problem.jobs)
        for resource in RESOURCES:
            asked = frames * _least(problem, model, resource) / problem.ticks
            if asked > load.time_share * (1 + SMALL):
                raise SpecError(
                    f"model {load.name!r}: its frames take at least {share_text(asked)} of the "
                    f"{resource}'s time, and quota.time_share is {load.time_share:g}: {REMEDY}"
                )


def _least(problem: Problem, model: int, resource: Resource) -> float:
    """Ticks of the whole resource that a frame takes at the least."""
    stages = [one for one in problem.loads[model].stages if one.resource == resource]
    if resource == "host":
        return sum(stage.ticks for stage in stages)
    pods = problem.pods
    return sum(min(one.ticks * one.pods for one in shares_of(s, pods)) for s in stages) / pods


@dataclass
class _Bucket:
    """Of a model on a resource; rate: at which its stages fill it now, in ticks a tick."""

    share: float
    level: float = 0.0
    rate: float = 0.0
    since: int = 0

    def at(self, now: int) -> float:
        """What it holds."""
        self.level = max(0.0, self.level + (self.rate - self.share) * (now - self.since))
        self.since = now
        return self.level


def over_share(table: Table) -> str | None:
    """What is said of the first stage that begins while its model is over its share, or None."""
    problem = table.problem
    shares = {n: load.time_share for n, load in enumerate(problem.loads)}
    buckets = {
        (model, resource): _Bucket(share)
        for model, share in shares.items()
        for resource in RESOURCES
        if share is not None
    }
    room = WINDOW_SECONDS * float(problem.clock_hz)
    for moment, is_start, slot in _events(table) if buckets else ():
        for number in slot.stages:
            job = problem.jobs[problem.stages[number][0]]
            bucket = buckets.get((job.model, "array" if slot.pods else "host"))
            if bucket is None:
                continue
            if is_start and bucket.at(moment) > room * bucket.share + SMALL:
                return (
                    f"model {problem.loads[job.model].name!r} would be over its quota.time_share "
                    f"of {bucket.share:g} when its frame {job.frame} goes on "
                    f"{1e3 * slot.start / float(problem.clock_hz):.4g} ms after the start: "
                    f"{REMEDY}, or run it by a policy"
                )
            bucket.at(moment)
            bucket.rate += _part(problem, slot) * (1 if is_start else -1)
    return None


def _part(problem: Problem, slot: Slot) -> float:
    """Of the resource, that each stage of a slot has; those of a joint have equal parts."""
    part = len(slot.pods) / problem.pods if slot.pods else 1.0
    return part / len(slot.stages)


def _events(table: Table) -> list[tuple[int, bool, Slot]]:
    """Ends and starts of all slots of some hyperperiods, in time, ends first."""
    found = []
    for turn in range(ROUNDS):
        begin = turn * table.problem.ticks
        for slot in table.slots:
            found.append((begin + slot.start, True, slot))
            found.append((begin + slot.start + slot.ticks, False, slot))
    return sorted(found, key=lambda event: event[:2])
