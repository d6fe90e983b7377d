"""Stages of steps or kernels whose places are given, in an order that their data allows.

Places are those of coarser operators, and a step may need what its operator does not: a sum
that joined the convolution before it reads the other summand. So a step moves to the first
stage, from its own on, in which what it reads is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from motet.passes.scheduling.pins import Place

Needs = Sequence[AbstractSet[int]]
"""Of every step the numbers of those that it reads, all of them smaller."""


@dataclass(frozen=True)
class PlacedGroup:
    """Steps in order, and the places that they were given."""

    steps: tuple[int, ...]
    places: frozenset[Place]


PlacedStages = list[tuple[PlacedGroup, ...]]


def placed_stages(
    needs: Needs,
    places: Sequence[Place | None],
    alone: AbstractSet[int] = frozenset(),
    *,
    may_wait: bool,
) -> PlacedStages:
    """Every step in one group of one stage.

    places: where steps are wanted; one without a place goes with its first reader. alone: steps
    that run beside no other. may_wait: whether a group may read what another of its stage
    makes; else such groups are one.
    """
    wanted = _filled(needs, places)
    levels = _levels(needs, wanted, alone)
    stages: PlacedStages = []
    for level in sorted(set(levels)):
        members = [number for number, own in enumerate(levels) if own == level]
        is_single = level[1] % 2 == 1
        for part in [members] if may_wait or is_single else _apart(members, needs, wanted):
            ordered = in_order([part] if is_single else _by_place(part, wanted), needs)
            stages.append(
                tuple(PlacedGroup(tuple(g), frozenset(wanted[n] for n in g)) for g in ordered)
            )
    return stages


def _apart(members: list[int], needs: Needs, places: Sequence[Place]) -> list[list[int]]:
    """Members in turns in which no group reads another: what several read comes before."""
    inside, first = set(members), set[int]()
    for number in reversed(members):
        for read in needs[number] & inside:
            if number in first or places[read] != places[number]:
                first.add(read)
    if not first:
        return [members]
    rest = [number for number in members if number not in first]
    return [*_apart(sorted(first), needs, places), rest]


def _filled(needs: Needs, places: Sequence[Place | None]) -> list[Place]:
    """A place for all: that of the first reader, or of the last step that is read."""
    found = list(places)
    for reader in reversed(range(len(needs))):
        place = found[reader]
        if place is None:
            continue
        for number in needs[reader]:
            own = found[number]
            if places[number] is None and (own is None or place < own):
                found[number] = place
    made: list[Place] = []
    for number, place in enumerate(found):
        before = [made[read] for read in needs[number]]
        made.append(place or max(before, default=Place(0, 0)))
    return made


def _levels(
    needs: Needs, places: Sequence[Place], alone: AbstractSet[int]
) -> list[tuple[int, int]]:
    """Stage of every step, and its turn there: odd where steps run that run beside no other."""
    levels: list[tuple[int, int]] = []
    for number, reads in enumerate(needs):
        stage, turn = max([(places[number].stage, 0), *(levels[read] for read in reads)])
        levels.append((stage, turn + (turn % 2 != (number in alone))))
    return levels


def _by_place(members: Sequence[int], places: Sequence[Place]) -> list[list[int]]:
    found: dict[Place, list[int]] = {}
    for number in members:
        found.setdefault(places[number], []).append(number)
    return list(found.values())


def in_order(groups: list[list[int]], needs: Needs) -> list[list[int]]:
    """Groups of a stage behind those that they read; what waits for each other is one group."""
    while True:
        owner = {number: at for at, group in enumerate(groups) for number in group}
        reads = [
            {owner[r] for number in group for r in needs[number] if r in owner} - {at}
            for at, group in enumerate(groups)
        ]
        after = [_reached(at, reads) for at in range(len(groups))]
        pairs = ((at, other) for at, found in enumerate(after) for other in found if other != at)
        pair = next(((at, other) for at, other in pairs if at in after[other]), None)
        if pair is None:
            return [groups[at] for at in sorted(range(len(groups)), key=lambda at: len(after[at]))]
        first, second = sorted(pair)
        joined = sorted(groups[first] + groups[second])
        groups = [*groups[:first], joined, *groups[first + 1 : second], *groups[second + 1 :]]


def _reached(start: int, reads: Sequence[AbstractSet[int]]) -> set[int]:
    """All groups that ``start`` waits for, directly or not."""
    found: set[int] = set()
    waiting = [*reads[start]]
    while waiting:
        at = waiting.pop()
        if at not in found:
            found.add(at)
            waiting += reads[at]
    return found
