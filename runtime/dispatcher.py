"""Runs what is submitted on a few threads, in a policy's order.

Every worker takes the first of the waiting runs and does the calls of its program. When something
has changed, it looks at the next boundary between two calls whether its run goes on: the run
whose turn is last gives its worker to one that waits and goes first, and stays in its frame until
it goes on, on any worker. Where nothing changed, a boundary costs the reading of a counter, which
native code does between kernels (``call_rows``).

Who goes first and who gives way is said by ``turns``. A model that never ends a run, or fails in
each, holds no more than its own: its queue is its alone, and it never has all workers.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from motet.runtime.boundaries import Boundary, Changes
from motet.runtime.errors import QueueFullError, SubmitError
from motet.runtime.policies import policy_named
from motet.runtime.queueing import Miss, Queueing
from motet.runtime.run_future import RunFuture
from motet.runtime.share_keeping import ShareKeeper
from motet.runtime.submitted import Steps, Submitted
from motet.runtime.tally import RunStatistics, Tally
from motet.runtime.turns import Turns
from motet.runtime.watch import LONGEST_WAIT, Watch
from motet.runtime.worker import serve

_LOGGER = logging.getLogger("motet")
_OPEN: weakref.WeakSet[Dispatcher] = weakref.WeakSet()


class Dispatcher:
    """Workers and queues of a session's models.

    workers: runs at once. It has no thread until something is submitted. shares: model -> the share
    of the workers' time after which it gives way to others.
    """

    def __init__(
        self,
        models: Iterable[str],
        queueing: Queueing,
        workers: int,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        self.queueing = queueing
        self.workers = workers
        self.process = os.getpid()
        self._watch = Watch(self._overdue)
        self._shares = ShareKeeper(shares, workers, self._look_again) if shares else None
        self._turns = Turns(models, policy_named(queueing.policy), workers, self._shares)
        self._tallies = self._turns.tallies
        self._numbers = itertools.count()
        self.changes = Changes()
        self._idle = 0  # workers that wait for something to do
        self._called = 0  # of those, the ones that were woken and are not yet there
        self._places = 0  # threads that wait for one
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._alive = 0
        # Reentrant: the garbage collector may end a session while this thread holds it.
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)
        self._place = threading.Condition(self._lock)
        _OPEN.add(self)

    @property
    def used(self) -> bool:
        """Whether anything was ever submitted."""
        return bool(self._threads)

    def submit(
        self,
        model: str,
        begin: Callable[[Boundary], Steps],
        *,
        deadline: float | None = None,
        priority: int = 0,
        timeout: float | None = None,
    ) -> Future[Any]:
        """Queue a run; ``deadline`` and ``timeout`` in seconds from now.

        Raises ``QueueFullError`` where it finds no place, ``SubmitError`` when closed.
        """
        now = time.monotonic()
        expires = None if timeout is None else now + timeout
        late = None if deadline is None else now + deadline
        with self._lock:
            tally = self._tallies[model]
            if self._closed or tally.waiting >= self.queueing.queue_size:
                self._await_place(model, tally, expires)
            run = Submitted(
                changes=self.changes, model=model, number=next(self._numbers), release=now,
                deadline=late, priority=priority, expires=expires, begin=begin,
            )  # fmt: skip
            future = run.future = RunFuture(lambda: self.cancel(run), self._lock)
            tally.released += 1
            tally.waiting += 1
            if self._turns.add(run):
                self.changes.told()
            if expires is not None or self.queueing.drop_late:
                self._look_after(run)
            self._call_worker()
        return future

    def _look_after(self, run: Submitted) -> None:
        if (moment := run.end_of_waiting(self.queueing.drop_late)) is not None:
            self._watch.add(moment, run)

    def _await_place(self, model: str, tally: Tally, expires: float | None) -> None:
        wait = self.queueing.when_full == "wait"
        # A worker that waited for a place here might be the one to free it.
        wait = wait and threading.current_thread() not in self._threads
        while not self._closed and tally.waiting >= self.queueing.queue_size:
            left = None if expires is None else expires - time.monotonic()
            if not wait or (left is not None and left <= 0):
                tally.counts["refused"] += 1
                raise QueueFullError(
                    f"model {model!r}: {tally.waiting} runs wait already, as many as its queue "
                    "holds: submit less often, or set a larger queue_size or drop_late"
                )
            self._places += 1
            self._place.wait(None if left is None else min(left, LONGEST_WAIT))
            self._places -= 1
        if self._closed:
            raise SubmitError(f"model {model!r}: the session is closed: load the bundle again")

    def _call_worker(self) -> None:
        if self._idle:
            self._wake_worker()
        if len(self._threads) < self.workers and self._idle < len(self._turns.ready):
            name = f"motet-worker-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._serve, name=name, daemon=True))
            self._threads[-1].start()
            self._alive += 1

    def _wake_worker(self) -> None:
        """One of those that wait for something to do, unless all are on their way."""
        if self._called < self._idle:
            self._called += 1
            self._work.notify()

    def _wake_workers(self) -> None:
        self._called = self._idle
        self._work.notify_all()

    def _serve(self) -> None:
        """A worker's life; the last one stops the watch, as nothing is left to look after."""
        serve(self)
        with self._lock:
            self._alive -= 1
            last = self._alive == 0
        if last:
            self._close_watches()

    def next(self, wait: bool) -> Submitted | None:
        """The run that this worker does next; as ``worker.Desk``."""
        with self._lock:
            while (run := self._turns.first()) is None:
                if not wait or (self._closed and not self._turns.ready):
                    return None
                self._idle += 1
                self._work.wait()
                self._idle -= 1
                self._called -= 1
            self._take(run)
            return run

    def _take(self, run: Submitted) -> None:
        """``run`` is on a worker from now on."""
        run.seen = self.changes.number
        if self._turns.take(run):
            self.changes.told()
        if self._closed and not self._turns.ready:
            self._wake_workers()  # nothing is left for those who wait
        if run.steps is None:
            self._begun(run.model)
            run.steps = run.begin(run)
            run.future.begin()

    def _begun(self, model: str) -> None:
        """A run of ``model`` has left its place in the queue."""
        self._tallies[model].waiting -= 1
        if self._places:
            self._place.notify_all()

    def _look_again(self) -> None:
        with self._lock:
            self.changes.told()

    def stays(self, run: Submitted) -> bool:
        """Whether ``run`` goes on here; if not, it is over, or waits again."""
        run.seen = self.changes.number
        with self._lock:
            if run.stop is None and (self._idle or not self._turns.gives_way(run)):
                return True
            if run.stop is None:
                run.broken_off = True
                self._leave(run)
                self._turns.ready.add(run)
                return False
        assert run.steps is not None
        run.steps.close()
        self.end(run)
        return False

    def _leave(self, run: Submitted) -> None:
        """``run`` is on no worker any more; others of its model may be."""
        self._turns.leave(run)
        if self._idle and self._turns.ready:
            self._wake_worker()

    def end(
        self, run: Submitted, result: Any = None, error: BaseException | None = None
    ) -> RunFuture | None:
        """A run that was on a worker has ended, or stops; as ``worker.Desk``."""
        with self._lock:
            self._leave(run)
            run.over = True
            outcome = run.stop or ("finished" if error is None else "failed")
            miss = self._tallies[run.model].ended(run, outcome)
            quietly = outcome == "finished" and run.future.finish(result)
        if not quietly:
            run.settle(outcome, result, error)
            self._report(miss)
            return None
        future = run.let_go()
        if miss is not None:  # whoever is told of it may take long
            future.wake()
            self._report(miss)
        return future if future.sleepers else None

    def _report(self, miss: Miss | None) -> None:
        if miss is None or self.queueing.on_miss is None:
            return
        try:
            self.queueing.on_miss(miss)
        except Exception:
            _LOGGER.exception("on_miss raised for model %r", miss.model)

    def cancel(self, run: Submitted) -> bool:
        """End ``run`` at once where it waits, at its next boundary where it runs."""
        with self._lock:
            if run.over or run.stop not in (None, "cancelled"):
                return False
            run.stop = "cancelled"
            self.changes.told()
            if run not in self._turns.ready:
                return True
            self._withdraw(run)
            self._tallies[run.model].ended(run, run.stop)
        self._given_up(run, None)
        return True

    def _withdraw(self, run: Submitted) -> None:
        """Take ``run``, which waits, out of the queue."""
        self._turns.ready.remove(run)
        run.over = True
        if run.steps is None:
            self._begun(run.model)
        self._wake_workers()  # where the session is closed, workers wait for the last to go

    def _given_up(self, run: Submitted, miss: Miss | None) -> None:
        """What a withdrawn run leaves to do, without the lock."""
        if run.steps is not None:
            run.steps.close()
        assert run.stop is not None
        run.settle(run.stop, None, None)
        self._report(miss)

    def _overdue(self, run: Submitted) -> None:
        """The watch's call: gives up a run that is late or past its time while nobody looks."""
        with self._lock:
            if run.over or run.stop is not None:
                return
            run.stop = run.overdue(time.monotonic())
            if run.stop is None:  # it began in time, and may yet run out of it
                if run.expires is not None:
                    self._watch.add(run.expires, run)
                return
            self.changes.told()
            if run not in self._turns.ready:
                return
            self._withdraw(run)
            miss = self._tallies[run.model].ended(run, run.stop)
        self._given_up(run, miss)

    def statistics(self) -> dict[str, RunStatistics]:
        """By model."""
        with self._lock:
            return {model: tally.statistics() for model, tally in self._tallies.items()}

    def end_soon(self) -> None:
        """Take no more runs; the threads end when all are done."""
        with self._lock:
            self._closed = True
            self.changes.told()
            self._wake_workers()
            self._place.notify_all()

    def close(self, cancel: bool = False) -> None:
        """Take no more runs, and wait for those there are, or cancel them."""
        self.end_soon()
        if cancel:
            with self._lock:
                runs = [*self._turns.ready, *self._turns.working]
            for run in runs:
                self.cancel(run)
        for thread in [*self._threads]:
            if thread is not threading.current_thread():
                thread.join()
        self._close_watches()

    def _close_watches(self) -> None:
        """Not under the lock: their threads may wait for it."""
        self._watch.close()
        if self._shares is not None:
            self._shares.close()


@atexit.register
def _finish_all() -> None:
    """Do what was submitted before the interpreter goes, as concurrent.futures does."""
    for dispatcher in list(_OPEN):
        if dispatcher.process == os.getpid():
            dispatcher.close()
