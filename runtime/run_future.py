"""The future of a submitted run: one of ``concurrent.futures`` that costs little.

A future's condition variable, with all that hangs on it, takes longer to make than everything else
that a run needs to be queued. So it is made when first asked for: by who waits for several futures
or wants to be called back. Who waits for one result sleeps on a lock of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager
from typing import Any

PENDING, RUNNING, FINISHED = "PENDING", "RUNNING", "FINISHED"
"""States as ``concurrent.futures`` calls them."""


class RunFuture(Future[Any]):
    """A ``concurrent.futures.Future`` whose ``cancel`` also stops a run that has begun.

    A run that waits is cancelled at once, one that runs at its next boundary between calls of
    its program; ``cancel`` is true for both, and the result is then ``CancelledError``.

    stop: has the dispatcher end the run; guard: the dispatcher's reentrant lock.
    """

    # What a future has that nobody has looked at, in place of the base class's __init__.
    _state = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _stopped = False
    sleepers: list[threading.Lock] | None = None
    """Of threads that sleep until the future is done."""

    def __init__(self, stop: Callable[[], bool], guard: AbstractContextManager[bool]) -> None:
        self._stop = stop
        self._guard = guard

    def __getattr__(self, name: str) -> Any:
        """The base class's condition and the lists that it guards, made when first asked for."""
        if name not in ("_condition", "_waiters", "_done_callbacks"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        with self._guard:
            if "_condition" not in self.__dict__:
                self._waiters = []
                self._done_callbacks: list[Callable[[Future[Any]], object]] = []
                self._condition = threading.Condition()
        return self.__dict__[name]

    def done(self) -> bool:
        """Whether the run has ended; for who looks often, without the condition."""
        return self._state not in (PENDING, RUNNING)

    def begin(self) -> None:
        """The run has begun; for the dispatcher, which knows that it was not cancelled."""
        self._state = RUNNING

    def finish(self, result: Any) -> bool:
        """Set the result under ``guard``, and leave it to the caller to ``wake``.

        False where somebody has asked for the condition, and nothing is done: ``set_result`` tells
        those, which may call back, so without ``guard``.
        """
        if "_condition" in self.__dict__:
            return False
        self._result = result
        self._state = FINISHED  # after the result, which others read without a lock
        return True

    def wake(self) -> None:
        """Those that sleep until the future is done, which it is."""
        with self._guard:  # who has not seen that it is done is among them
            sleepers, self.sleepers = self.sleepers, None
        for sleeper in sleepers or ():
            sleeper.release()

    def _sleep(self, timeout: float | None) -> None:
        """Until the future is done, or for ``timeout`` seconds."""
        sleeper = threading.Lock()
        sleeper.acquire()
        with self._guard:
            if self.done():
                return
            if self.sleepers is None:
                self.sleepers = []
            self.sleepers.append(sleeper)
        if sleeper.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
            return
        with self._guard:
            if self.sleepers is not None and sleeper in self.sleepers:
                self.sleepers.remove(sleeper)

    def result(self, timeout: float | None = None) -> Any:
        """The outputs; raises what the run did, or ``CancelledError``."""
        if not self.done():
            self._sleep(timeout)
        if self._state == FINISHED and self._exception is None:
            return self._result
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the run raised; None where it has outputs."""
        if not self.done():
            self._sleep(timeout)
        return super().exception(0)

    def set_result(self, result: Any) -> None:
        """For the dispatcher."""
        super().set_result(result)
        self.wake()

    def set_exception(self, exception: BaseException | None) -> None:
        """For the dispatcher."""
        super().set_exception(exception)
        self.wake()

    def cancel(self) -> bool:
        """Ask for an end; false where the run has ended otherwise."""
        return self._stop() or self.cancelled()

    def cancelled(self) -> bool:
        """Whether the run was cancelled and has ended."""
        return super().cancelled() or self._stopped

    def end_cancelled(self) -> None:
        """Make it so; the dispatcher calls this once, and nothing after it."""
        if super().cancel():
            self.set_running_or_notify_cancel()
            self.wake()
        else:
            self._stopped = True
            self.set_exception(CancelledError())
