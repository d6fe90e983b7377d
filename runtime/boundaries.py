"""Who asks a run to stop between two kernel calls: a counter that native code reads too."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass


class Changes:
    """Counts the events after which runs have to look whether they go on.

    ``told`` is for one thread at a time; the ``number`` of events may be read by any, and at its
    ``address``.
    """

    def __init__(self) -> None:
        self._cell = ctypes.c_int64(0)
        self.address = ctypes.addressof(self._cell)
        self.number = 0

    def told(self) -> None:
        """Something has changed."""
        self.number += 1
        self._cell.value = self.number


@dataclass(eq=False, slots=True)
class Boundary:
    """What a run reads between two calls: it stops where the events are no longer ``seen``."""

    changes: Changes
    seen: int = 0
