"""A machine that is being filled: lanes that are taken, and what models have of their shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from motet.targets.timetables.buckets import RingBucket, Taker, wait_of
from motet.targets.timetables.timeline import Ring


@dataclass(frozen=True, eq=False)
class Machine:
    """What is taken while stages are placed: lanes, and of models' shares of the time."""

    ring: Ring
    buckets: Mapping[tuple[int, bool], RingBucket]

    def takers(self, model: int, on_array: bool, part: float) -> list[Taker]:
        """What a stage of a model fills, by how much a tick."""
        bucket = self.buckets.get((model, on_array))
        return [] if bucket is None else [(bucket, part)]

    def place(
        self, firsts: Sequence[int], lanes: int, ready: int, ticks: int, takers: Sequence[Taker]
    ) -> tuple[int, int] | None:
        """Take ``lanes`` from one of ``firsts`` on for ``ticks``: the start, and which; the
        earliest, of equal ones the first. None where they are never free so long.
        """
        found = self._earliest(firsts, lanes, ready, ticks)
        if found is not None and ticks:
            if takers:
                found = self._within_shares(found, firsts, lanes, ready, ticks, takers)
            self.ring.take(found[1], found[1] + lanes, found[0], ticks)
        return found

    def _within_shares(
        self, found: tuple[int, int], firsts: Sequence[int], lanes: int, ready: int, ticks: int,
        takers: Sequence[Taker],
    ) -> tuple[int, int]:  # fmt: skip
        """``found``, or the first place after it that all buckets allow, if there is one."""
        later: tuple[int, int] | None = found
        while later is not None and (wait := wait_of(takers, later[0], ticks)):
            after = later[0] + wait
            later = None
            if after < ready + self.ring.ticks:
                later = self._earliest(firsts, lanes, after, ticks)
        chosen = later or found
        for bucket, part in takers:
            bucket.take(chosen[0], ticks, part)
        return chosen

    def _earliest(
        self, firsts: Sequence[int], lanes: int, ready: int, ticks: int
    ) -> tuple[int, int] | None:
        best: tuple[int, int] | None = None
        for first in firsts:
            start = self.ring.earliest(first, first + lanes, ready, ticks)
            if start is not None and (best is None or start < best[0]):
                best = start, first
        return best
