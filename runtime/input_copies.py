"""Copies of inputs for runs that wait, in memory that is used again where that is worth it.

A fresh array of some megabytes costs more in page faults than in copying: buffers of runs that
have begun are kept for the next ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from motet.runtime.device import Array
from motet.runtime.pool import IdlePool

MOST_IDLE = 8
"""Sets of buffers that a model keeps; those of the least recent shapes go first."""

LARGE = 1 << 16
"""Bytes of a set from which on it is kept; a smaller one is made anew in less time."""

_Shapes = tuple[tuple[int, ...], ...]


class InputCopies:
    """Buffers of one model; may be used from many threads.

    Those of the same shapes stand for each other: an input has one type, and copying into a
    buffer of another byte order keeps the values.
    """

    def __init__(self) -> None:
        self._idle = IdlePool[_Shapes, dict[int, Array]](MOST_IDLE)

    def take(
        self, arrays: Mapping[int, Array]
    ) -> tuple[dict[int, Array], Callable[[], None] | None]:
        """A copy of ``arrays`` (input number -> array), and what to call once it has been read."""
        if sum([array.nbytes for array in arrays.values()]) < LARGE:
            return {number: _small_copy(array) for number, array in arrays.items()}, None
        shapes = tuple([array.shape for array in arrays.values()])
        found = self._idle.take(shapes)
        if found is None:
            found = {number: array.copy() for number, array in arrays.items()}
        else:
            for number, array in arrays.items():
                np.copyto(found[number], array)
        own = found
        return own, lambda: self._idle.give(shapes, own)


def _small_copy(array: Array) -> Array:
    """A copy to be read only.

    numpy's own lets go of the interpreter for more than 500 elements: too short for a worker that
    waits for it to do anything but wake up in vain.
    """
    return np.ndarray(array.shape, array.dtype, array.tobytes())
