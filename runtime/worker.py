"""A worker's life: it takes a run, does it until it ends or gives way, and takes the next.

Threads that sleep for a result are woken late: not when it is there but when the worker has begun
with its next run and is about to call kernels. Until then it holds the interpreter's lock, so
they would only wake to sleep again for that, which costs both sides more than the delay of some
microseconds: two system calls and two switches of threads a run.
"""

from __future__ import annotations

from typing import Any, Protocol

from motet.runtime.boundaries import Changes
from motet.runtime.run_future import RunFuture
from motet.runtime.submitted import Submitted


class Desk(Protocol):
    """Where workers get their runs: the dispatcher."""

    changes: Changes

    def next(self, wait: bool) -> Submitted | None:
        """What to do next; None: nothing now, or where it may ``wait``, nothing ever again."""

    def stays(self, run: Submitted) -> bool:
        """Whether ``run`` goes on here; if not, it is over, or waits again."""

    def end(
        self, run: Submitted, result: Any = None, error: BaseException | None = None
    ) -> RunFuture | None:
        """``run`` has ended; gives its future where threads are to be woken that sleep for it."""


def serve(desk: Desk) -> None:
    """Do what there is to do until there is nothing any more."""
    asleep: RunFuture | None = None
    while True:
        run = desk.next(wait=asleep is None)
        if run is not None:
            asleep = _go_on(desk, run, asleep)
        elif asleep is not None:
            asleep.wake()
            asleep = None
        else:
            return


def _go_on(desk: Desk, run: Submitted, asleep: RunFuture | None) -> RunFuture | None:
    """Do ``run`` until it ends or gives its worker away.

    Wakes those ``asleep`` after its first step, and before anything that may take long: going on
    after a break, calling back. Gives the future of those who then have to be woken.
    """
    steps, changes = run.steps, desk.changes
    result: Any = None
    failure: BaseException | None = None
    over = False
    assert steps is not None
    while True:
        changed = changes.number != run.seen
        if asleep is not None and (changed or run.broken_off):
            asleep.wake()
            asleep = None
        if changed and not desk.stays(run):
            return None
        try:
            run.stage += next(steps)
        except StopIteration as end:
            result, over = end.value, True
        except BaseException as error:  # the caller's, through the future
            failure, over = error, True
        if asleep is not None:
            asleep.wake()
            asleep = None
        if over:
            # Not in a handler: what a callback raises would be logged with this end as its cause.
            try:
                return desk.end(run, result, failure)
            finally:
                failure = None  # its traceback holds this frame
