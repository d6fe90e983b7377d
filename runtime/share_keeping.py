"""Between a dispatcher and the shares of time: what runs have spent, and who looks when.

Workers look again when the share of a model ends while it has a worker, and when a model that was
over its share is so no longer. The dispatcher's lock guards it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from motet.runtime.submitted import Submitted
from motet.runtime.time_shares import TimeShares
from motet.runtime.watch import LONGEST_WAIT, Watch

SOON = 1e-4
"""Seconds by which somebody looks later than it could have changed."""


class ShareKeeper:
    """shares: model -> share of the time of all workers. look: has all workers look again."""

    def __init__(self, shares: Mapping[str, float], workers: int, look: Callable[[], None]) -> None:
        self._shares = TimeShares(shares, workers)
        self._watch = Watch[str](lambda _: look())
        self._since: dict[int, float] = {}
        self._back: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._shares)

    def began(self, run: Submitted) -> None:
        """``run`` has a worker from now on."""
        if run.model not in self._shares:
            return
        now = self._since[run.number] = time.monotonic()
        left = self._shares.left(run.model, now)
        if left <= LONGEST_WAIT:
            self._watch.add(now + left + SOON, run.model)

    def stopped(self, run: Submitted) -> None:
        """``run`` has no worker any more."""
        since = self._since.pop(run.number, None)
        if since is not None:
            now = time.monotonic()
            self._shares.spend(run.model, now - since, now)

    def is_over_at_work(self, run: Submitted) -> bool:
        """Whether the model of ``run``, which has a worker, is over its share by now."""
        since = self._since.get(run.number)
        if since is None:
            return False
        now = self._since[run.number] = time.monotonic()
        self._shares.spend(run.model, now - since, now)
        return self._shares.is_over(run.model, now)

    def is_within(self, run: Submitted) -> bool:
        """Whether the model of ``run``, which waits, is not over its share."""
        now = time.monotonic()
        if not self._shares.is_over(run.model, now):
            return True
        if self._back.get(run.model, 0.0) <= now:
            moment = now + self._shares.back(run.model, now) + SOON
            self._back[run.model] = moment
            self._watch.add(moment, run.model)
        return False

    def close(self) -> None:
        """Nobody is told any more; not under the dispatcher's lock."""
        self._watch.close()
