"""Which bytes the tensors of a program take, through views and parts of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motet.runtime.program import Constant, Input, Part, Register, Stored, View
from motet.runtime.shapes import Shape, product


@dataclass(frozen=True)
class Extent:
    """Bytes ``start`` up to ``stop`` of ``base``: a storage, an input or a weight as a whole.

    ``stop`` is None where the tensor's shape holds symbols.
    """

    base: Input | Constant | Stored
    start: int
    stop: int | None

    @property
    def is_empty(self) -> bool:
        """Whether the tensor is known to have no bytes."""
        return self.start == self.stop

    def overlaps(self, other: Extent) -> bool:
        """Whether the two may share a byte."""
        if self.base != other.base or self.is_empty or other.is_empty:
            return False
        starts_before = other.stop is None or self.start < other.stop
        return starts_before and (self.stop is None or other.start < self.stop)


def extent_of(number: int, registers: Sequence[Register]) -> Extent:
    """The bytes of register ``number``."""
    register = registers[number]
    size = bytes_in(register.dtype, register.shape)
    while size is None and isinstance(register.place, View):  # another shape of as many bytes
        register = registers[register.place.source]
        size = bytes_in(register.dtype, register.shape)
    start, place = 0, register.place
    while isinstance(place, (View, Part)):
        start += place.offset if isinstance(place, Part) else 0
        place = registers[place.source].place
    if isinstance(place, Stored):
        start, place = start + place.offset, Stored(place.storage)
    return Extent(place, start, None if size is None else start + size)


def bytes_in(dtype: str, shape: Shape) -> int | None:
    """Bytes of a tensor; None where its shape holds symbols."""
    elements = product(shape)
    return elements * int(np.dtype(dtype).itemsize) if isinstance(elements, int) else None
