"""Copies of inputs for runs that wait, in memory that is used again.

A fresh array of some megabytes costs more in page faults than in copying: buffers of runs that
have begun are kept for the next ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from motet.runtime.device import Array
from motet.runtime.pool import IdlePool

MOST_IDLE = 8
"""Sets of buffers that a model keeps; those of the least recent shapes go first."""

_Shapes = tuple[tuple[int, ...], ...]


class InputCopies:
    """Buffers of one model; may be used from many threads.

    Those of the same shapes stand for each other: an input has one type, and copying into a
    buffer of another byte order keeps the values.
    """

    def __init__(self) -> None:
        self._idle = IdlePool[_Shapes, dict[int, Array]](MOST_IDLE)

    def take(self, arrays: Mapping[int, Array]) -> dict[int, Array]:
        """A copy of ``arrays`` (input number -> array) that is the caller's until ``give``."""
        found = self._idle.take(_shapes(arrays))
        if found is None:
            return {number: array.copy() for number, array in arrays.items()}
        for number, array in arrays.items():
            np.copyto(found[number], array)
        return found

    def give(self, copies: dict[int, Array]) -> None:
        """``copies``, from ``take``, may be written over."""
        self._idle.give(_shapes(copies), copies)


def _shapes(arrays: Mapping[int, Array]) -> _Shapes:
    return tuple([array.shape for array in arrays.values()])
