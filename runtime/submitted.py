"""One submitted run, from its submission to its end."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from motet.runtime.boundaries import Boundary
from motet.runtime.errors import LateError, SubmitError, TimedOutError
from motet.runtime.run_future import RunFuture

Steps = Generator[int, None, Any]
"""A run that gives way at boundaries between its calls, and yields the calls done since it last
did; what it returns is the result. Its first step reads the inputs and calls nothing, so that it
takes no time to speak of."""


@dataclass(eq=False, slots=True, kw_only=True)
class Submitted(Boundary):
    """A run, which is what its calls read between them; a ``policies.Job``.

    Moments are those of ``time.monotonic``. begin: makes the run's steps; stop: why it must end
    at its next boundary; broken_off: it has begun, and given its worker away.
    """

    model: str
    number: int
    release: float
    deadline: float | None
    priority: int
    expires: float | None
    begin: Callable[[Boundary], Steps]
    stage: int = 0
    steps: Steps | None = None
    stop: str | None = None
    over: bool = False
    broken_off: bool = False
    future: RunFuture = field(init=False, repr=False)

    def overdue(self, now: float) -> str | None:
        """Why the run must be given up at ``now``, where it was said to be late."""
        if self.expires is not None and now >= self.expires:
            return "timed_out"
        return "dropped" if self.steps is None else None

    def let_go(self) -> RunFuture:
        """The future, for the last time; a run that is over holds no inputs and no results."""
        future = self.future
        del self.future
        self.begin = _over
        return future

    def settle(self, outcome: str, result: Any, error: BaseException | None) -> None:
        """Settle the future; what waits for it may run in this thread, so without a lock."""
        future = self.let_go()
        if outcome == "cancelled":
            future.end_cancelled()
        elif outcome == "finished":
            future.set_result(result)
        elif outcome == "failed" and error is not None:
            future.set_exception(error)
        else:  # also where the run raised after it was told to stop
            future.set_exception(self._reason(outcome))

    def _reason(self, outcome: str) -> SubmitError:
        if outcome == "dropped":
            return LateError(f"model {self.model!r}: the deadline passed before the run began")
        where = f"after {self.stage} calls" if self.steps is not None else "while the run waited"
        return TimedOutError(f"model {self.model!r}: its timeout passed {where}")

    def end_of_waiting(self, drop_late: bool) -> float | None:
        """When somebody must look after this run although nobody else does."""
        moments = [self.expires, self.deadline if drop_late else None]
        return min((moment for moment in moments if moment is not None), default=None)


def _over(_boundary: Boundary) -> Steps:
    raise AssertionError("the run is over")
