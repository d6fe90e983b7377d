"""Who asks a run to stop between two kernel calls: a counter that native code reads too."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass


class Changes:
    """Counts the events after which runs have to look whether they go on.

    ``told`` is for one thread at a time; the number may be read by any, and at its ``address``.
    """

    def __init__(self) -> None:
        self._cell = ctypes.c_int64(0)
        self.address = ctypes.addressof(self._cell)

    @property
    def number(self) -> int:
        """Of events until now."""
        return self._cell.value

    def told(self) -> None:
        """Something has changed."""
        self._cell.value += 1


@dataclass
class Boundary:
    """What a run reads between two calls: it stops where the events are no longer ``seen``."""

    changes: Changes
    seen: int = 0
