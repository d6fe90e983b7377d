"""Whose turn it is: the runs that wait and those on a worker, and who gives way to whom.

What a dispatcher decides with, under its lock: no thread, no clock of its own. Where there are
several models and workers one worker is never given to one model, and a model over its share of
the time (``share_keeping``) goes after all that are within theirs.
"""

from __future__ import annotations

from collections.abc import Iterable

from motet.runtime.policies import Policy, ReadyQueue
from motet.runtime.share_keeping import ShareKeeper
from motet.runtime.submitted import Submitted
from motet.runtime.tally import Tally


class Turns:
    """Runs of ``models`` on ``workers`` by ``policy``; not for several threads at once.

    shares: None where no model has a share of the time.
    """

    def __init__(
        self, models: Iterable[str], policy: Policy, workers: int, shares: ShareKeeper | None
    ) -> None:
        self.tallies = {model: Tally() for model in models}
        self.ready = ReadyQueue[Submitted](policy)
        self.working: list[Submitted] = []
        self._most = workers if len(self.tallies) == 1 else max(1, workers - 1)
        self._held = self._most < workers
        self._shares = shares
        self._key = policy.key

    def may_work(self, run: Submitted) -> bool:
        """Whether its model may have one worker more."""
        return self.tallies[run.model].working < self._most

    def _is_within(self, run: Submitted) -> bool:
        """Whether ``run`` may work, and its model is not over its share."""
        assert self._shares is not None
        return self.may_work(run) and self._shares.is_within(run)

    def first(self) -> Submitted | None:
        """What a free worker does next: a run of a model over its share where there is no other."""
        if self._shares is not None:
            within = self.ready.first(self._is_within)
            if within is not None:
                return within
        return self.ready.first(self.may_work) if self._held else self.ready.first()

    def add(self, run: Submitted) -> bool:
        """``run`` waits; whether one on a worker might give way to it."""
        self.ready.add(run)
        return self._is_before_others(run)

    def take(self, run: Submitted) -> bool:
        """``run``, which waits, is on a worker now; whether another might give way to the next.

        That one kept its worker as ``run`` was to go first.
        """
        self.ready.remove(run)
        self.working.append(run)
        self.tallies[run.model].working += 1
        if self._shares is None:
            if len(self.working) == 1:
                return False
        else:
            self._shares.began(run)
        first = self.ready.first()
        return first is not None and self._is_before_others(first)

    def leave(self, run: Submitted) -> None:
        """``run`` is on no worker any more; others of its model may be."""
        if self._shares is not None:
            self._shares.stopped(run)
        self.working.remove(run)
        self.tallies[run.model].working -= 1

    def _is_before_others(self, run: Submitted) -> bool:
        if self._shares is not None:
            return True
        key = self._key
        own = key(run)
        return max(map(key, self.working), default=own) > own

    def gives_way(self, run: Submitted) -> bool:
        """Whether a run that waits goes before ``run``, and no other worker should take it."""
        first = self.ready.first(lambda job: job.model == run.model or self.may_work(job))
        if self._shares is not None:
            within = self.ready.first(self._is_within)
            if within is not None and self._shares.is_over_at_work(run):
                return True
            first = within
        key = self._key
        if first is None or key(first) > key(run):
            return False
        anybody = self.may_work(first)
        rivals = [job for job in self.working if anybody or job.model == first.model]
        return max(rivals, key=key) is run
