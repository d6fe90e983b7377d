"""Between a session and its dispatcher: checked inputs, and what the bundle says of a model."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

from motet.runtime.dispatcher import Dispatcher
from motet.runtime.errors import InputError
from motet.runtime.exact_numbers import exact
from motet.runtime.input_copies import InputCopies
from motet.runtime.manifest import ModelEntry
from motet.runtime.model import ModelSession
from motet.runtime.policies import LEAST_PRIORITY, MOST_PRIORITY
from motet.runtime.queueing import KEYS, Queueing
from motet.runtime.tally import RunStatistics


class Submitting:
    """The runs of a session's models that were submitted.

    threads: of a kernel call, and so the workers where ``queueing`` gives no number.
    """

    def __init__(self, models: Mapping[str, ModelSession], queueing: Queueing, threads: int):
        self.queueing = queueing
        self._models = tuple(models)
        self._shares = {
            name: model.entry.quota.time_share
            for name, model in models.items()
            if model.entry.quota.time_share is not None
        }
        self._deadlines = {name: _deadline(model.entry) for name, model in models.items()}
        self._copies = {name: InputCopies() for name in models}
        self._threads = threads
        self._lock = threading.Lock()
        self._dispatcher = self._made()

    def _made(self) -> Dispatcher:
        workers = self.queueing.workers or self._threads
        return Dispatcher(self._models, self.queueing, workers, self._shares)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """As ``Session.configure``."""
        unknown = [key for key in settings if key not in KEYS]
        if unknown:
            raise InputError(f"no setting {unknown[0]!r}: they are {', '.join(KEYS)}")
        with self._lock:
            if self._dispatcher.used:
                raise InputError("runs were submitted already: configure the session before")
            self.queueing = replace(self.queueing, **settings)
            self._dispatcher = self._made()

    def submit(
        self,
        model: ModelSession,
        inputs: Mapping[str, Any],
        deadline: float | None,
        priority: int | None,
        timeout: float | None,
        copy: bool,
    ) -> Future[Any]:
        """As ``Session.submit``."""
        if deadline is not None or priority is not None or timeout is not None:
            _check(deadline, priority, timeout)
        held = model.check_inputs(inputs)
        taken = None
        if copy:
            held, taken = self._copies[model.name].take(held)
        return self._current().submit(
            model.name,
            lambda boundary: model.pausing(held, boundary, taken),
            deadline=self._deadlines[model.name] if deadline is None else deadline,
            priority=model.entry.priority if priority is None else priority,
            timeout=timeout,
        )

    def _current(self) -> Dispatcher:
        """The dispatcher; a new one after a fork, which takes no thread along."""
        if self._dispatcher.process != os.getpid():
            self._lock = threading.Lock()
            self._dispatcher = self._made()
        return self._dispatcher

    def statistics(self) -> dict[str, RunStatistics]:
        """By model."""
        return self._dispatcher.statistics()

    def end_soon(self) -> None:
        """Take no more runs, and wait for nothing."""
        self._dispatcher.end_soon()

    def close(self, cancel: bool) -> None:
        """As ``Session.close``."""
        self._dispatcher.close(cancel)


def _check(deadline: object, priority: object, timeout: object) -> None:
    """Raise ``InputError`` for what is no time or no priority, before anything is queued."""
    for name, value in (("deadline", deadline), ("timeout", timeout)):
        if value is not None and (not isinstance(value, Real) or math.isnan(value)):
            raise InputError(f"{name} is {value!r}: give seconds from now")
    if isinstance(timeout, Real) and timeout <= 0:
        raise InputError(f"timeout is {timeout!r}: give seconds from now, above 0")
    if priority is None:
        return
    if not isinstance(priority, Integral) or not (LEAST_PRIORITY <= int(priority) <= MOST_PRIORITY):
        raise InputError(
            f"priority is {priority!r}: give an integer from {LEAST_PRIORITY} to {MOST_PRIORITY}"
        )


def _deadline(entry: ModelEntry) -> float | None:
    """Seconds from the release, by what the bundle says."""
    if entry.deadline_ms is not None:
        return entry.deadline_ms / 1e3
    return None if entry.rate_hz is None else float(1 / exact(str(entry.rate_hz)))
