"""How frames come to runs: queues and threads in front of what blocks, Motet's and OpenVINO's own.

Each class is an ``open_loop.Engine``.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from typing import Any

from .open_loop import Ended, Frame


class Queued:
    """An earliest-deadline-first queue in front of runs that block, done by ``workers`` threads."""

    blocks = False

    def __init__(self, runs: list[Callable[[], Any]], workers: int, settings: str) -> None:
        self.settings = settings
        self._runs = runs
        self._waiting: list[tuple[Frame, int, Ended]] = []
        self._working = self._number = 0
        self._changed = threading.Condition()
        for _ in range(workers):
            threading.Thread(target=self._serve, daemon=True).start()

    def start(self, frame: Frame, ended: Ended) -> None:
        """Queue the frame."""
        with self._changed:
            self._number += 1
            heapq.heappush(self._waiting, (frame, self._number, ended))
            self._changed.notify()

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                frame, _, ended = heapq.heappop(self._waiting)
                self._working += 1
            self._runs[frame.model]()
            ended(frame)
            with self._changed:
                self._working -= 1
                if not self._waiting and not self._working:
                    self._changed.notify_all()

    def settle(self, drop: bool) -> None:
        """As ``Engine``."""
        with self._changed:
            if drop:
                self._waiting.clear()
            while self._waiting or self._working:
                self._changed.wait(0.01)


class OwnThreads:
    """Each model's frames one after another, in the thread that releases them."""

    blocks = True

    def __init__(self, runs: list[Callable[[], Any]], settings: str) -> None:
        self.settings = settings
        self._runs = runs

    def start(self, frame: Frame, ended: Ended) -> None:
        """Run it."""
        self._runs[frame.model]()
        ended(frame)

    def settle(self, drop: bool) -> None:
        """As ``Engine``."""


class Submitted:
    """Motet's ``session.submit``."""

    blocks = False

    def __init__(self, session: Any, names: list[str], inputs: list[Any], settings: str) -> None:
        self.settings = settings
        self._session, self._names, self._inputs = session, names, inputs
        self._pending: dict[int, Any] = {}  # what has ended is let go, with its outputs

    def start(self, frame: Frame, ended: Ended) -> None:
        """Submit it."""
        future = self._session.submit(
            self._names[frame.model],
            self._inputs[frame.model],
            deadline=frame.due - time.monotonic(),
            copy=False,  # nobody writes to them, and the peers read them in place too
        )
        self._pending[id(future)] = future
        future.add_done_callback(lambda done: self._over(done, frame, ended))

    def _over(self, future: Any, frame: Frame, ended: Ended) -> None:
        del self._pending[id(future)]
        if not future.cancelled():
            future.result()
            ended(frame)

    def settle(self, drop: bool) -> None:
        """As ``Engine``."""
        for future in list(self._pending.values()):
            if not (drop and future.cancel()):
                future.exception()


class AsyncQueues:
    """OpenVINO's own ``AsyncInferQueue`` for each model."""

    blocks = True

    def __init__(self, queues: list[Any], inputs: list[Any], settings: str) -> None:
        self.settings = settings
        self._queues, self._inputs = queues, inputs
        for queue in queues:
            queue.set_callback(_tell)

    def start(self, frame: Frame, ended: Ended) -> None:
        """Queue it; blocks while all requests of the queue are busy."""
        self._queues[frame.model].start_async(self._inputs[frame.model], (frame, ended))

    def settle(self, drop: bool) -> None:
        """As ``Engine``."""
        for queue in self._queues:
            queue.wait_all()


def _tell(_request: Any, asked: tuple[Frame, Ended]) -> None:
    frame, ended = asked
    ended(frame)
