"""The largest magnitude of every channel of values, seen run by run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from motet.runtime.device import Array


class ChannelMaxima:
    """axes: by tensor, that whose indices are channels. found: float32 [channels] by tensor."""

    def __init__(self, axes: Mapping[str, int]) -> None:
        self.axes = dict(axes)
        self.found: dict[str, NDArray[np.float32]] = {}

    def add(self, values: Mapping[str, Array]) -> None:
        """One run's values."""
        for name, axis in self.axes.items():
            array = values[name]
            rest = tuple(other for other in range(array.ndim) if other != axis % array.ndim)
            top = np.abs(array).max(axis=rest, initial=0).astype(np.float32)
            self.found[name] = np.maximum(self.found.get(name, top), top)
