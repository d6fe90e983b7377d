"""Shares of the time as buckets: when a stage may begin, for searches that place stage by stage.

What a model's stages take of a resource fills its bucket, k of P pods as k/P of the array; it leaks
at the model's ``time_share``, and a stage begins only while it holds at most
``WINDOW_SECONDS`` of the share (``quotas`` says it of whole timetables). Earlier work leaves more
time to leak: a stage that is moved to an earlier moment never forbids a later one.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from motet.runtime.time_shares import WINDOW_SECONDS
from motet.targets.timetables.jobs import Problem

Taker = tuple["RingBucket", float]
"""A bucket, and what a stage fills it with in a tick."""


def room_of(problem: Problem, share: float) -> float:
    """Ticks that a bucket may hold when a stage begins."""
    return WINDOW_SECONDS * float(problem.clock_hz) * share


def slack_of(problem: Problem) -> float:
    """Ticks by which sums over a hyperperiod may be off."""
    return 1e-6 + 1e-10 * problem.ticks


@dataclass
class Leak:
    """A bucket whose stages come one after another in time, from empty.

    share: ticks that leak in a tick. room: what it may hold when a stage begins.
    """

    share: float
    room: float
    level: float = 0.0
    since: int = 0

    def earliest(self, ready: int) -> int:
        """The first moment from ``ready`` on at which a stage may begin."""
        over = self._at(ready) - self.room
        return ready if over <= 0 else ready + math.ceil(over / self.share)

    def _at(self, now: int) -> float:
        return max(0.0, self.level - self.share * (now - self.since))

    def take(self, start: int, ticks: int, part: float) -> None:
        """A stage that fills it with ``part`` a tick; starts never fall."""
        self.level = max(0.0, self._at(start) + (part - self.share) * ticks)
        self.since = start + ticks


def leaks_of(problem: Problem) -> dict[tuple[int, bool], Leak]:
    """Empty buckets of the models that have a share, by number and whether of the array."""
    return {
        (model, on_array): Leak(load.time_share, room_of(problem, load.time_share))
        for model, load in enumerate(problem.loads)
        if load.time_share is not None
        for on_array in (True, False)
    }


@dataclass
class _Levels:
    """times: rising, from 0, at which something changes. levels: then held. fills: ticks a tick
    from then on. begins: whether a stage begins then.
    """

    times: list[int] = field(default_factory=lambda: [0])
    levels: list[float] = field(default_factory=lambda: [0.0])
    fills: list[float] = field(default_factory=lambda: [0.0])
    begins: list[bool] = field(default_factory=lambda: [False])

    def copied(self) -> _Levels:
        return _Levels([*self.times], [*self.levels], [*self.fills], [*self.begins])


class RingBucket:
    """A bucket over a hyperperiod that repeats, filled in any order.

    Levels are those that come again: of the repetitions before, all that is not leaked is there.
    """

    def __init__(self, share: float, room: float, ticks: int, slack: float) -> None:
        self.share, self.ticks = share, ticks
        self._room, self._slack = room + slack / 4, slack / 4
        self._now = _Levels()
        self._offered: tuple[tuple[int, int, float], _Levels] | None = None

    def wait(self, start: int, ticks: int, part: float) -> int:
        """Ticks after ``start`` before which a stage cannot begin for it; 0: it may begin there.

        It may where the bucket allows it, and still allows all stages that are in it already.
        """
        place = start % self.ticks
        over = self._level(self._now, place) - self._room
        if over > 0:
            return math.ceil(over / self.share)
        made = self._filled(place, ticks, part, refuse=True)
        if isinstance(made, int):
            return made
        self._offered = (place, ticks, part), made
        return 0

    def take(self, start: int, ticks: int, part: float) -> None:
        """Put a stage in, also where it should not begin: then nothing is said of that again."""
        asked = (start % self.ticks, ticks, part)
        if self._offered is None or self._offered[0] != asked:
            made = self._filled(*asked, refuse=False)
            self._offered = None if isinstance(made, int) else (asked, made)
        if self._offered is not None:
            self._now = self._offered[1]
        self._offered = None

    def _level(self, of: _Levels, place: int) -> float:
        at = bisect_left(of.times, place)
        if at < len(of.times) and of.times[at] == place:
            return of.levels[at]
        ticks = place - of.times[at - 1]
        return max(0.0, of.levels[at - 1] + (of.fills[at - 1] - self.share) * ticks)

    def _cut(self, of: _Levels, place: int) -> None:
        """Let something change at ``place``."""
        at = bisect_left(of.times, place)
        if at < len(of.times) and of.times[at] == place:
            return
        of.levels.insert(at, self._level(of, place))
        of.times.insert(at, place)
        of.fills.insert(at, of.fills[at - 1])
        of.begins.insert(at, False)

    def _filled(self, place: int, ticks: int, part: float, refuse: bool) -> _Levels | int:
        """Levels with one stage more; or ticks by which it has to move, as it would hold one up."""
        made = self._now.copied()
        self._cut(made, place)
        self._cut(made, (place + ticks) % self.ticks)
        count = len(made.times)
        at = first = bisect_left(made.times, place)
        made.begins[first] = True
        level, left = made.levels[first], ticks
        for _ in range(3 * count):
            after = (at + 1) % count
            length = (made.times[after] - made.times[at]) % self.ticks or self.ticks
            if left > 0:
                made.fills[at] += part
                left -= length
            level = max(0.0, level + (made.fills[at] - self.share) * length)
            rise = level - made.levels[after]
            if left <= 0 and abs(rise) <= self._slack:
                return made
            if refuse and made.begins[after] and level > self._room and rise > self._slack:
                before = (made.times[after] - place) % self.ticks
                return self._past(before, ticks, part, level - self._room)
            made.levels[after] = level
            at = after
        return self.ticks  # it takes more than the share: levels never come again

    def _past(self, before: int, ticks: int, part: float, over: float) -> int:
        """How far a stage has to move that would hold one up which begins ``before`` ticks later.

        As long as it ends before that one, it leaves it only less time to leak; then ``part`` less
        is before it with every tick. Where it holds itself up, when it comes again, it has to leak.
        """
        if not before:
            return max(1, math.ceil(over / self.share))
        if ticks <= before:
            return before - ticks + 1
        return min(before, max(1, math.ceil(over / part)))


def buckets_of(problem: Problem) -> dict[tuple[int, bool], RingBucket]:
    """As ``leaks_of``, over the hyperperiod."""
    slack = slack_of(problem)
    return {
        (model, on_array): RingBucket(
            load.time_share, room_of(problem, load.time_share), problem.ticks, slack
        )
        for model, load in enumerate(problem.loads)
        if load.time_share is not None
        for on_array in (True, False)
    }


def wait_of(takers: Sequence[Taker], start: int, ticks: int) -> int:
    """The longest of their waits."""
    return max((bucket.wait(start, ticks, part) for bucket, part in takers), default=0)
