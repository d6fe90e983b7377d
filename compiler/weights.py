"""The bundle's constants: each distinct tensor once, across models."""

from __future__ import annotations

import hashlib

import numpy as np

from motet.runtime.device import Array
from motet.runtime.memory import bytes_of


class WeightPool:
    """Tensors in order of first use; equal dtype, shape and bytes are one entry."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self.requested_bytes = 0
        self._index: dict[tuple[str, tuple[int, ...], bytes], int] = {}

    def add(self, array: Array) -> int:
        """The number under which the bundle stores ``array``."""
        data = np.ascontiguousarray(array).reshape(array.shape)
        digest = hashlib.sha256(bytes_of(data)).digest()
        key: tuple[str, tuple[int, ...], bytes] = (data.dtype.name, tuple(data.shape), digest)
        self.requested_bytes += data.nbytes
        if key not in self._index:
            self._index[key] = len(self.arrays)
            self.arrays.append(data)
        return self._index[key]

    @property
    def stored_bytes(self) -> int:
        """Bytes after sharing; ``requested_bytes`` is what it was before."""
        return sum(array.nbytes for array in self.arrays)
