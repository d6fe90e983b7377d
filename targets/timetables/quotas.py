"""Shares of the time in timetables: no stage of a model begins while the model is over its share.

As with policies (``runtime/time_shares.py``), what a model's stages take of a resource fills a
bucket, k of P pods as k/P of the array, which leaks at its ``time_share``; a bucket with more than
``WINDOW_SECONDS`` of the share is over it. So in any time T a model has at most
``share * (T + WINDOW_SECONDS)`` of a resource, and the stage that it had begun. Policies let a
model have more where nobody else wants it; a timetable, which is fixed before, does not. Here is
what whole timetables are held to; how searches keep to it, stage by stage: ``buckets``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from motet.runtime.errors import SpecError
from motet.targets.sharing.asked import share_text
from motet.targets.sharing.loads import RESOURCES, Resource
from motet.targets.timetables.buckets import room_of, slack_of
from motet.targets.timetables.jobs import Problem, shares_of
from motet.targets.timetables.placing import Cost, Placer, Slot, Table

SMALL = 1e-6
"""Of a share, by which sums may be off."""

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


def asks_too_much(placer: Placer) -> bool:
    """Whether a model's frames take more than its share with the pods of a layout, in any order."""
    problem = placer.problem
    taken: dict[tuple[int, bool], float] = {}
    for number, (job, stage) in enumerate(problem.stages):
        model, on_array, part = placer.taker(number)
        share = placer.shares[problem.jobs[job].model][stage]
        taken[model, on_array] = taken.get((model, on_array), 0.0) + part * share.ticks
    shares = [load.time_share for load in problem.loads]
    return any(
        share is not None and ticks > share * problem.ticks * (1 + SMALL)
        for share, ticks in ((shares[model], ticks) for (model, _), ticks in taken.items())
    )


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


Late = tuple[Slot, int, float]
"""A slot, the number of a stage of it, and by how many ticks its model's bucket is too full."""


def late_starts(problem: Problem, slots: Sequence[Slot]) -> list[Late]:
    """The stages that begin while their model is over its share, in time.

    In a hyperperiod to which others have gone before: what they leave in a bucket is there.
    """
    buckets = {
        (model, on_array): _Bucket(load.time_share)
        for model, load in enumerate(problem.loads)
        if load.time_share is not None
        for on_array in (True, False)
    }
    if not buckets:
        return []
    events = _events(problem, slots, buckets)
    _turn(problem, events, buckets)  # what is left after one comes again
    before = {key: bucket.level for key, bucket in buckets.items()}
    found = _turn(problem, events, buckets)
    rises = {key: bucket.level - before[key] for key, bucket in buckets.items()}
    return found or [  # none is too full yet, but buckets fill up from one hyperperiod to the next
        (slot, number, rises[key])
        for _, is_start, slot, number, key in events
        if is_start and rises[key] > slack_of(problem)
    ]


def rank(table: Table) -> tuple[int, Cost]:
    """What searches compare: how far models are over their shares, then the cost."""
    over = sum(ticks for _, _, ticks in late_starts(table.problem, table.slots))
    return math.ceil(over), table.cost


_Event = tuple[int, bool, Slot, int, tuple[int, bool]]
"""Moment in the hyperperiod, whether a start, slot, stage, bucket."""


def _turn(
    problem: Problem, events: Sequence[_Event], buckets: dict[tuple[int, bool], _Bucket]
) -> list[Late]:
    """A hyperperiod: the starts that are too early."""
    found: list[Late] = []
    for moment, is_start, slot, number, key in events:
        bucket = buckets[key]
        over = bucket.at(moment) - room_of(problem, bucket.share)
        if is_start and over > slack_of(problem):
            found.append((slot, number, over))
        bucket.rate += part_of(problem, slot) * (1 if is_start else -1)
    for bucket in buckets.values():
        bucket.at(problem.ticks)
        bucket.since = 0
    return found


def _events(
    problem: Problem, slots: Sequence[Slot], buckets: dict[tuple[int, bool], _Bucket]
) -> list[_Event]:
    """Ends and starts of what fills buckets, in time, ends first; what goes on over the
    hyperperiod's end is in them from its start on.
    """
    found = list[_Event]()
    for slot in slots:
        for number in slot.stages if slot.ticks else ():
            key = problem.jobs[problem.stages[number][0]].model, bool(slot.pods)
            if key not in buckets:
                continue
            start, end = (at % problem.ticks for at in (slot.start, slot.start + slot.ticks))
            found += [(start, True, slot, number, key), (end, False, slot, number, key)]
            if end <= start:
                buckets[key].rate += part_of(problem, slot)
    return sorted(found, key=lambda event: event[:2])


def over_share(table: Table) -> str | None:
    """What is said of the first stage that begins while its model is over its share, or None."""
    problem = table.problem
    found = late_starts(problem, table.slots)
    if not found:
        return None
    slot, number, _ = min(found, key=lambda late: (late[0].start, late[1]))
    job = problem.jobs[problem.stages[number][0]]
    load = problem.loads[job.model]
    return (
        f"model {load.name!r} would be over its quota.time_share of {load.time_share:g} when its "
        f"frame {job.frame} goes on {1e3 * slot.start / float(problem.clock_hz):.4g} ms after the "
        f"start: {REMEDY}, or run it by a policy"
    )


def part_of(problem: Problem, slot: Slot) -> float:
    """Of the resource, that each stage of a slot has; those of a joint have equal parts."""
    part = len(slot.pods) / problem.pods if slot.pods else 1.0
    return part / len(slot.stages)
