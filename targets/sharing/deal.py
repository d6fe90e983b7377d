"""Who gets which of the free pods, at a moment when frames wait: shares that move with load.

First moves that are compared: the policy's first on all free pods; it, or the next, on any smaller
share, the rest of the pods left free or given in turn to those after it; nobody, where stages run.
Where the first of them makes no frame late, that is it: with little to do a frame has the whole
array. Otherwise the best by a look ahead (``lookahead``) is taken: a long stage gets so few pods
that urgent frames, at hand or soon to come, are in time on the others.

Pods of a share are neighbours, and stay a stage's until its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from motet.targets.sharing.loads import Share
from motet.targets.sharing.lookahead import WORST, Expected, Move, judged, largest

LOOKED_AT = 3
"""Frames of the policy's order that may be the first to begin."""

Run = tuple[int, int]
"""First pod and the one after the last."""


@dataclass(frozen=True)
class Dealt:
    """Frame number ``frame`` of the list begins on ``share`` from pod ``first`` on."""

    frame: int
    first: int
    share: Share


def free_runs(pods: int, taken: Sequence[Run]) -> list[Run]:
    """What lies between the runs that are taken, in order.

    >>> free_runs(8, [(4, 6), (0, 1)])
    [(1, 4), (6, 8)]
    """
    found, at = [], 0
    for first, stop in sorted(taken):
        if first > at:
            found.append((at, first))
        at = max(at, stop)
    return [*found, (at, pods)] if at < pods else found


def fitted(runs: Sequence[Run], pods: int) -> int | None:
    """First pod of the shortest run that holds ``pods``."""
    fits = [run for run in runs if run[1] - run[0] >= pods]
    return min(fits, key=lambda run: (run[1] - run[0], run[0]))[0] if fits else None


def deal(
    frames: Sequence[Expected],
    waiting: Sequence[int],
    pods: int,
    now: int,
    busy: Sequence[tuple[Run, Move]],
) -> list[Dealt]:
    """Who begins now; waiting: numbers of ``frames`` that could, in the policy's order."""
    running = [move for _, move in busy]
    taken = [run for run, _ in busy]
    best: list[Dealt] | None = None
    least = WORST
    seen: set[tuple[Dealt, ...]] = set()
    for moves in _candidates(frames, waiting, pods, taken):
        if tuple(moves) in seen:
            continue
        seen.add(tuple(moves))
        begun = [Move(m.frame, m.share, now + m.share.ticks) for m in moves]
        found = judged(frames, pods, now, [*running, *begun], least)
        if found < least:
            best, least = moves, found
        if len(seen) == 1 and not found[0]:
            break
    return best or []


def _candidates(
    frames: Sequence[Expected], waiting: Sequence[int], pods: int, taken: list[Run]
) -> Iterator[list[Dealt]]:
    for number in waiting[:LOOKED_AT]:
        for share in reversed(frames[number].tasks[0].shares):
            first = fitted(free_runs(pods, taken), share.pods)
            if first is None:
                continue
            begun = [Dealt(number, first, share)]
            others = [other for other in waiting if other != number]
            yield begun + _rest(frames, others, pods, [*taken, (first, first + share.pods)])
            yield begun
    if taken:
        yield []


def _rest(
    frames: Sequence[Expected], others: Sequence[int], pods: int, taken: list[Run]
) -> list[Dealt]:
    """The other frames in order, each on the most neighbouring pods that are left."""
    found = []
    for number in others:
        runs = free_runs(pods, taken)
        most = max((stop - first for first, stop in runs), default=0)
        share = largest(frames[number].tasks[0].shares, most)
        first = None if share is None else fitted(runs, share.pods)
        if share is None or first is None:
            continue
        found.append(Dealt(number, first, share))
        taken = [*taken, (first, first + share.pods)]
    return found
