"""On-chip memories of runs, used again by later runs, of the same or of other programs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Memories:
    """Named memories of one run at a time; each grows to the largest size that was asked for."""

    def __init__(self) -> None:
        self._bytes: dict[str, NDArray[np.uint8]] = {}

    def room(self, name: str, count: int, dtype: Any) -> NDArray[Any]:
        """``count`` values of ``dtype`` of the memory called ``name``; what they hold is open."""
        size = count * np.dtype(dtype).itemsize
        held = self._bytes.get(name)
        if held is None or len(held) < size:
            held = self._bytes[name] = np.zeros(size, np.uint8)
        return held[:size].view(dtype)


class MemoryPool:
    """Memories that runs in flight borrow; as many are made as run at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Memories] = []

    @contextmanager
    def borrowed(self) -> Iterator[Memories]:
        """Memories that nobody else uses meanwhile."""
        with self._lock:
            memories = self._idle.pop() if self._idle else Memories()
        try:
            yield memories
        finally:
            with self._lock:
                self._idle.append(memories)
