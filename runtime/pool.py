"""A pool of things that are dear to make and serve one user at a time, by key."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


class IdlePool(Generic[Key, Item]):
    """Keeps at most ``limit`` idle items over all keys; those of the least recent key go first.

    Items in use are not counted: they belong to their user until ``give``. May be used
    from many threads.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: dict[Key, list[Item]] = {}  # in the order in which keys were last given to
        self._newest: Key | None = None
        self._count = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._count

    def take(self, key: Key) -> Item | None:
        """An idle item of ``key``, now the caller's alone; None where there is none."""
        with self._lock:
            items = self._idle.get(key)
            if not items:
                return None
            self._count -= 1
            return items.pop()

    def give(self, key: Key, item: Item) -> None:
        """Put ``item`` back, and drop the least recent where there are too many."""
        with self._lock:
            if key != self._newest:
                self._idle[key] = self._idle.pop(key, [])
                self._newest = key
            self._idle[key].append(item)
            self._count += 1
            while self._count > self._limit or len(self._idle) > self._limit:
                self._drop_one()

    def _drop_one(self) -> None:
        """The oldest item of the least recent key, or the key where all its items are in use."""
        key, items = next(iter(self._idle.items()))
        if items:
            items.pop(0)
            self._count -= 1
        if not items:
            del self._idle[key]
            if key == self._newest:
                self._newest = None
