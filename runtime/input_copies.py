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

_Key = tuple[tuple[int, str, tuple[int, ...]], ...]
_Buffers = dict[int, Array]


class InputCopies:
    """Buffers of one model; may be used from many threads."""

    def __init__(self) -> None:
        self._idle = IdlePool[_Key, _Buffers](MOST_IDLE)

    def take(self, arrays: Mapping[int, Array]) -> _Buffers:
        """A copy of ``arrays`` (input number -> array) that is the caller's until ``give``."""
        found = self._idle.take(_key(arrays))
        if found is None:
            return {number: array.copy() for number, array in arrays.items()}
        for number, array in arrays.items():
            np.copyto(found[number], array)
        return found

    def give(self, copies: _Buffers) -> None:
        """``copies``, from ``take``, may be written over."""
        self._idle.give(_key(copies), copies)


def _key(arrays: Mapping[int, Array]) -> _Key:
    return tuple((number, array.dtype.str, array.shape) for number, array in arrays.items())
