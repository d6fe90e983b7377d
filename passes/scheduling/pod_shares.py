"""Pods shared out among the groups of a stage, so that they finish together.

**Pods of one kind.** A group's time depends on how many pods it gets, not on which, and never
rises with more. Then the stage takes the least time T for which the pods that every group needs
to end by T are not more than there are: T is the time of some group on some number of pods, and a
binary search over those finds it. That is exact for times that are separable and monotone.

**Pods of several kinds.** A group's time depends on which pods it gets. The groups lie side by
side in the order given, and a dynamic programme over where one ends and the next begins finds
the best cuts: exact for that order.

More groups than pods: they are dealt to the pods, the longest first, and run in turn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)


Times = Sequence[float]


class Shares(NamedTuple):
    """seconds: of the stage. pods: of every group."""

    seconds: float
    pods: tuple[range, ...]


def counts_of(pods: int, fine: int = 8) -> tuple[int, ...]:
    """Numbers of pods that groups may get: all up to ``fine``, then 2^i and 3 x 2^i, and all."""
    found = {*range(1, min(pods, fine) + 1), pods}
    power = 1
    while power <= pods:
        found |= {power, power * 3} & {*range(1, pods + 1)}
        power *= 2
    return tuple(sorted(found))


def shared_by_count(times: Sequence[Times], counts: Sequence[int]) -> Shares:
    """Shares of ``counts[-1]`` pods of one kind, from pod 0 on; no more groups than pods.

    times: of every group, its seconds on each of ``counts`` pods; they never rise.
    """
    limits = sorted({seconds for group in times for seconds in group})
    falling = [[-seconds for seconds in group] for group in times]
    low, high = 0, len(limits) - 1
    while low < high:
        middle = (low + high) // 2
        if _needed(falling, counts, limits[middle]) is None:
            low = middle + 1
        else:
            high = middle
    needed = _needed(falling, counts, limits[low])
    assert needed is not None, "one pod for each group is enough for the longest time"
    pods, at = [], 0
    for place in needed:
        pods.append(range(at, at + counts[place]))
        at += counts[place]
    longest = max(group[place] for group, place in zip(times, needed, strict=True))
    return Shares(longest, tuple(pods))


def _needed(
    falling: Sequence[Sequence[float]], counts: Sequence[int], limit: float
) -> list[int] | None:
    """Places in ``counts`` of the least pods with which every group ends by ``limit``.

    ``falling``: negative seconds, so that they rise. None where there are too few pods.
    """
    found, left = [], counts[-1]
    for group in falling:
        place = bisect_left(group, -limit)
        if place == len(counts):
            return None
        left -= counts[place]
        if left < 0:
            return None
        found.append(place)
    return found


def spread(shares: Shares, times: Sequence[Times], counts: Sequence[int]) -> Shares:
    """``shares`` of ``shared_by_count`` with the pods handed out that no group needs.

    The group with the most time for its pods gets its next number of them, while one fits. By the
    times nothing gains, but they know little of what few pods wait for: latencies, slots, ports.
    """
    places = [counts.index(len(pods)) for pods in shares.pods]
    spare = counts[-1] - sum(map(len, shares.pods))
    while True:
        fits = [
            group
            for group, place in enumerate(places)
            if place + 1 < len(counts) and counts[place + 1] - counts[place] <= spare
        ]
        if not fits:
            break
        group = max(fits, key=lambda one: times[one][places[one]] / counts[places[one]])
        spare -= counts[places[group] + 1] - counts[places[group]]
        places[group] += 1
    ends = [*accumulate((counts[place] for place in places), initial=0)]
    return Shares(shares.seconds, tuple(range(*ends[at : at + 2]) for at in range(len(places))))


def shared_by_place(
    groups: Sequence[Key], cuts: Sequence[int], seconds: Callable[[Key, range], float]
) -> Shares:
    """Shares between pods ``cuts`` [0, ..., pods], the groups side by side in their order.

    No more groups than parts.
    """

    @lru_cache(None)
    def best(group: int, at: int) -> tuple[float, int]:
        """The least time of ``groups[group:]`` from cut ``at`` on, and the first one's end."""
        left = len(groups) - group - 1
        if left == 0:
            return seconds(groups[group], range(cuts[at], cuts[-1])), len(cuts) - 1
        ends = range(at + 1, len(cuts) - left)
        return min(
            (max(seconds(groups[group], range(cuts[at], cuts[end])), best(group + 1, end)[0]), end)
            for end in ends
        )

    made, at = [], 0
    for group in range(len(groups)):
        end = best(group, at)[1]
        made.append(range(cuts[at], cuts[end]))
        at = end
    return Shares(best(0, 0)[0], tuple(made))


def dealt(groups: Sequence[Key], parts: int, seconds: Callable[[Key], float]) -> list[list[int]]:
    """Numbers of the groups in at most ``parts`` runs, the longest dealt first, to the emptiest."""
    if len(groups) <= parts:
        return [[number] for number in range(len(groups))]
    runs: list[list[int]] = [[] for _ in range(parts)]
    full = [0.0] * parts
    for number in sorted(range(len(groups)), key=lambda n: -seconds(groups[n])):
        at = full.index(min(full))
        runs[at].append(number)
        full[at] += seconds(groups[number])
    return runs
