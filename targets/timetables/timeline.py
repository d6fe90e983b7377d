"""When lanes are free, on a ring of ticks: what a timetable does comes again after its length.

A lane is a resource that serves one stage at a time: the host, the array, a share of its pods, or
a single pod. A stage may lie across the ring's end, and then goes on at its beginning.
"""

from __future__ import annotations

from bisect import bisect_right


class Ring:
    """Lanes over ``ticks`` that repeat."""

    def __init__(self, lanes: int, ticks: int) -> None:
        self.ticks = ticks
        self._starts: list[list[int]] = [[] for _ in range(lanes)]
        self._ends: list[list[int]] = [[] for _ in range(lanes)]

    def earliest(self, first: int, stop: int, ready: int, ticks: int) -> int | None:
        """The first moment from ``ready`` on at which lanes [first, stop) are all free for
        ``ticks``; None: never. What takes no time needs no lane.
        """
        if not ticks:
            return ready
        if ticks > self.ticks:
            return None
        at, latest = ready, ready + self.ticks
        while at < latest:
            wait = self._wait(first, stop, at % self.ticks, ticks)
            if not wait:
                return at
            at += wait
        return None

    def _wait(self, first: int, stop: int, place: int, ticks: int) -> int:
        """Ticks from ``place`` until after the stage that is in the way; 0: none is."""
        end = place + ticks
        for lane in range(first, stop):
            starts, ends = self._starts[lane], self._ends[lane]
            if not starts:
                continue
            at = bisect_right(starts, place)
            if at and ends[at - 1] > place:
                return ends[at - 1] - place
            if at < len(starts) and starts[at] < end:
                return ends[at] - place
            if end > self.ticks and starts[0] < end - self.ticks:
                return ends[0] + self.ticks - place
        return 0

    def take(self, first: int, stop: int, start: int, ticks: int) -> None:
        """Lanes [first, stop) are taken from ``start`` on, and were free."""
        if not ticks:
            return
        place = start % self.ticks
        for lane in range(first, stop):
            self._insert(lane, place, min(place + ticks, self.ticks))
            if place + ticks > self.ticks:
                self._insert(lane, 0, place + ticks - self.ticks)

    def _insert(self, lane: int, start: int, end: int) -> None:
        at = bisect_right(self._starts[lane], start)
        self._starts[lane].insert(at, start)
        self._ends[lane].insert(at, end)
