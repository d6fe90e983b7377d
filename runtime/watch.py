"""A thread that calls somebody back at given moments."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

LONGEST_WAIT = 3600.0
"""Seconds; what waits longer looks again. Locks cannot wait for ever by a number."""


class Watch(Generic[Item]):
    """Calls ``due(item)`` at the item's moment of ``time.monotonic``, or soon after.

    The thread starts with the first item and is a daemon.
    """

    def __init__(self, due: Callable[[Item], None]) -> None:
        self._due = due
        self._alarms: list[tuple[float, int, Item]] = []
        self._count = itertools.count()
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, moment: float, item: Item) -> None:
        """``item`` is due at ``moment``; nothing after ``close``."""
        with self._changed:
            if self._closed:
                return
            heapq.heappush(self._alarms, (moment, next(self._count), item))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="motet-watch", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                left = self._alarms[0][0] - time.monotonic() if self._alarms else None
                if left is None or left > 0:
                    self._changed.wait(None if left is None else min(left, LONGEST_WAIT))
                    continue
                item = heapq.heappop(self._alarms)[2]
            self._due(item)
            del item  # it may hold much, and the next one may be hours away

    def close(self) -> None:
        """Call nobody back any more; returns when the thread has ended."""
        with self._changed:
            self._closed = True
            self._alarms.clear()
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
