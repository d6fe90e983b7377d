"""The registers of a program in the making: one entry per tensor, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from motet.compiler.weights import WeightPool
from motet.runtime.device import Array
from motet.runtime.element_types import stored_dtype
from motet.runtime.extents import Extent, bytes_in, extent_of
from motet.runtime.program import (
    Constant,
    Input,
    Part,
    Place,
    Register,
    Stored,
    TensorInfo,
    View,
)
from motet.runtime.shapes import Dimension, Expression, Shape, product


@dataclass
class RegisterFile:
    """Registers and the sizes of the storages behind them."""

    weights: WeightPool
    registers: list[Register] = field(default_factory=list)
    storage_bytes: list[Dimension] = field(default_factory=list)
    _constants: dict[int, int] = field(default_factory=dict)
    _embedded: set[int] = field(default_factory=set)

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

    def part(self, source: int, offset: int, shape: Shape) -> int:
        """The tensor of ``shape`` at byte ``offset`` of ``source``."""
        return self._new(self.registers[source].dtype, shape, Part(source, offset))

    def within(self, storage: int, offset: int, dtype: str, shape: Shape) -> int:
        """The tensor of ``shape`` at byte ``offset`` of a storage."""
        return self._new(dtype, shape, Stored(storage, offset))

    def storage(self, size: int) -> int:
        """A new storage of ``size`` bytes."""
        self.storage_bytes.append(size)
        return len(self.storage_bytes) - 1

    def extent(self, register: int) -> Extent:
        """The bytes that a register takes."""
        return extent_of(register, self.registers)

    def embed(self, offsets: Mapping[int, int], into: int) -> None:
        """Move all that lies in each storage to its byte offset in another storage."""
        for number, register in enumerate(self.registers):
            place = register.place
            if isinstance(place, Stored) and place.storage in offsets:
                moved = Stored(into, offsets[place.storage] + place.offset)
                self.registers[number] = Register(register.dtype, register.shape, moved)
        self._embedded |= offsets.keys()

    def settled(self) -> tuple[list[Register], list[Dimension]]:
        """All registers, and the bytes of the storages that are left, which are renumbered."""
        left = [n for n in range(len(self.storage_bytes)) if n not in self._embedded]
        numbers = {storage: number for number, storage in enumerate(left)}
        registers = [
            Register(r.dtype, r.shape, Stored(numbers[r.place.storage], r.place.offset))
            if isinstance(r.place, Stored)
            else r
            for r in self.registers
        ]
        return registers, [self.storage_bytes[storage] for storage in left]

    def constant(self, array: Array) -> int:
        """A weight, stored once in the bundle."""
        index = self.weights.add(array)
        if index not in self._constants:
            stored = self.weights.arrays[index]
            place = Constant(index)
            self._constants[index] = self._new(stored.dtype.name, tuple(stored.shape), place)
        return self._constants[index]


def named_outputs(
    outputs: Sequence[TensorInfo], results: Sequence[int], registers: Sequence[Register]
) -> tuple[TensorInfo, ...]:
    """The outputs under their ONNX names, with the shapes that were compiled."""
    found = (registers[result] for result in results)
    return tuple(
        TensorInfo(info.name, _element(info, register), register.shape)
        for info, register in zip(outputs, found, strict=True)
    )


def _element(info: TensorInfo, register: Register) -> str:
    """The element type of an output: as compiled, or narrow and held in its bits."""
    return info.dtype if stored_dtype(info.dtype) == register.dtype else register.dtype


def _bytes(dtype: str, shape: Shape) -> Dimension:
    size = bytes_in(dtype, shape)
    if size is not None:
        return size
    return Expression("*", product(shape), int(np.dtype(dtype).itemsize))
