"""The registers of a program in the making: one entry per tensor, and where it lies."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from motet.compiler.weights import WeightPool
from motet.runtime.device import Array
from motet.runtime.program import Constant, Input, Place, Register, Stored, View
from motet.runtime.shapes import Dimension, Expression, Shape, product


@dataclass
class RegisterFile:
    """Registers and the sizes of the storages behind them."""

    weights: WeightPool
    registers: list[Register] = field(default_factory=list)
    storage_bytes: list[Dimension] = field(default_factory=list)
    _constants: dict[int, int] = field(default_factory=dict)

    def _new(self, dtype: str, shape: Shape, place: Place) -> int:
        self.registers.append(Register(dtype, shape, place))
        return len(self.registers) - 1

    def input(self, index: int, dtype: str, shape: Shape) -> int:
        """The register of the model's input number ``index``."""
        return self._new(dtype, shape, Input(index))

    def stored(self, dtype: str, shape: Shape) -> int:
        """A new tensor in the arena."""
        self.storage_bytes.append(_bytes(dtype, shape))
        return self._new(dtype, shape, Stored(len(self.storage_bytes) - 1))

    def view(self, source: int, shape: Shape) -> int:
        """The same bytes as ``source`` in another shape."""
        return self._new(self.registers[source].dtype, shape, View(source))

    def constant(self, array: Array) -> int:
        """A weight, stored once in the bundle."""
        index = self.weights.add(array)
        if index not in self._constants:
            stored = self.weights.arrays[index]
            place = Constant(index)
            self._constants[index] = self._new(stored.dtype.name, tuple(stored.shape), place)
        return self._constants[index]


def _bytes(dtype: str, shape: Shape) -> Dimension:
    elements, width = product(shape), int(np.dtype(dtype).itemsize)
    return elements * width if isinstance(elements, int) else Expression("*", elements, width)
