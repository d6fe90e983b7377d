"""What would become of the frames at hand if these began on these pods now: a rollout.

From a moment on, frames that wait, run or are expected (the next of every model, a period after its
last) are played forward. In the future nobody shares: the first in the policy's order gets all
pods, or those that are free where it ends earlier so. A first move is judged by the frames that
then miss their deadline, each weighted by how likely it is asked for, then by the sum of their
ends: one-step policy improvement (Bertsekas, Tsitsiklis and Wu, "Rollout algorithms for
combinatorial optimization", Journal of Heuristics 3, 1997) over the policy without shares.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from motet.targets.sharing.loads import Share

Judged = tuple[float, float]
"""Expected misses, and the sum of ends."""


@dataclass(frozen=True)
class Task:
    """What a frame does next: on the array by ``shares``, or ``ticks`` of the host (no shares)."""

    ticks: int
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True)
class Expected:
    """A frame. key: the policy's; ready: from when its first task could begin, if not waiting for
    frames ``sources`` (numbers in the list); weight: how likely it is asked for. dropped: given up
    where its deadline passes before it begins.
    """

    key: tuple[float, ...]
    tasks: tuple[Task, ...]
    ready: int
    deadline: int | None
    sources: tuple[int, ...] = ()
    weight: float = 1.0
    dropped: bool = False


@dataclass(frozen=True)
class Move:
    """Frame ``frame`` of the list begins, or is, on ``share`` until tick ``end``."""

    frame: int
    share: Share
    end: int


WORST: Judged = (math.inf, math.inf)


def judged(
    frames: Sequence[Expected],
    pods: int,
    now: int,
    moves: Sequence[Move],
    least: Judged = WORST,
) -> Judged:
    """What the rollout of ``moves`` comes to; frames in the order of the list where keys tie.

    least: where it comes to no less than that, it may end there, as misses and ends only grow.
    """
    return _Rollout(frames, pods, now, moves).run(least)


class _Rollout:
    def __init__(
        self, frames: Sequence[Expected], pods: int, now: int, moves: Sequence[Move]
    ) -> None:
        self.frames, self.pods, self.now, self.free = frames, pods, now, pods
        self.task = [0] * len(frames)
        self.missing = [len(frame.sources) for frame in frames]
        self.followers: list[list[int]] = [[] for _ in frames]
        self.waiting: list[tuple[tuple[float, ...], int]] = []
        self.events: list[tuple[int, int, int]] = []
        self.busy_until = now
        self.missed, self.ends = 0.0, 0.0
        begun = {move.frame for move in moves}
        for move in moves:
            self._take(move.frame, move.share, move.end)
        for number, frame in enumerate(frames):
            for source in frame.sources:
                self.followers[source].append(number)
            if number not in begun and not frame.sources:
                heapq.heappush(self.events, (max(frame.ready, now), number, -1))

    def run(self, least: Judged) -> Judged:
        """All events, up to ``least``, then what it came to."""
        while self.events and (self.missed, self.ends) < least:
            now = self.events[0][0]
            while self.events and self.events[0][0] == now:
                _, number, freed = heapq.heappop(self.events)
                if freed < 0:
                    self._ask(now, number)
                else:
                    self.free += freed
                    self.task[number] += 1
                    self._ask(now, number)
            self._serve(now)
        return self.missed, self.ends

    def _ask(self, now: int, number: int) -> None:
        """A frame's next task, or its end."""
        frame = self.frames[number]
        if self.task[number] == len(frame.tasks):
            late = frame.deadline is not None and now > frame.deadline
            self.missed += frame.weight * late
            self.ends += frame.weight * (now - self.now)
            for follower in self.followers[number]:
                self.missing[follower] -= 1
                if not self.missing[follower]:
                    ready = max(now, self.frames[follower].ready)
                    heapq.heappush(self.events, (ready, follower, -1))
            return
        task = frame.tasks[self.task[number]]
        if task.shares:
            heapq.heappush(self.waiting, (frame.key, number))
        else:
            heapq.heappush(self.events, (now + task.ticks, number, 0))

    def _serve(self, now: int) -> None:
        while self.waiting and self.free:
            number = self.waiting[0][1]
            if self._is_given_up(now, number):
                heapq.heappop(self.waiting)
                self._drop(number)
                continue
            shares = self.frames[number].tasks[self.task[number]].shares
            whole = shares[-1]
            share = largest(shares, self.free)
            if share is None:
                return
            later = max(self.busy_until, now) + whole.ticks
            if share.pods < whole.pods and now + share.ticks > later:
                return
            heapq.heappop(self.waiting)
            self._take(number, share, now + share.ticks)

    def _is_given_up(self, now: int, number: int) -> bool:
        frame = self.frames[number]
        late = frame.deadline is not None and now >= frame.deadline
        return late and frame.dropped and not self.task[number]

    def _drop(self, number: int) -> None:
        """A frame and those that wait for it are missed; each ends when it is given up."""
        self.missed += self.frames[number].weight
        for follower in self.followers[number]:
            self._drop(follower)

    def _take(self, number: int, share: Share, end: int) -> None:
        self.free -= share.pods
        self.busy_until = max(self.busy_until, end)
        heapq.heappush(self.events, (end, number, share.pods))


def largest(shares: Sequence[Share], pods: int) -> Share | None:
    """The share with the most pods that ``pods`` hold; None: it fits none of them."""
    found = None
    for share in shares:
        if share.pods <= pods:
            found = share
    return found
