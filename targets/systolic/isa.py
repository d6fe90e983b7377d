"""The array's tile-grained instruction set, and the operands that instructions name.

One instruction moves or multiplies one tile. A tile of ``rows`` x ``columns`` lies
in its memory column by column: value (r, c) at ``address`` + 4 (c x rows + r) bytes,
so that each row and column of the array has consecutive values of its own.

=========== ================================================================
LOAD_INPUT  tile [rows = m, columns = k] of a DRAM operand into the scratchpad
            at ``address``; im2col where the operand's generator says so
LOAD_WEIGHT tile [rows = k, columns = n] into the scratchpad at ``address``
LOAD_BIAS   starts the accumulator tile [rows = m, columns = n] at ``address``
            with the operand's values, or with zeros where ``operand`` is NO_OPERAND
MATMUL      input tile [rows, depth] at ``address`` times weight tile [depth,
            columns] at ``weight_address``, added to the accumulator tile
            [rows, columns] at ``accumulator_address``
STORE       accumulator tile [rows, columns] at ``address``, limited to [low,
            high], into a DRAM operand
=========== ================================================================

``group``, ``row`` and ``column`` place a loaded or stored tile in its operand.
Instructions act in order; the memories are double-buffered by their addresses
(``checker`` holds the rules).
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from motet.targets.systolic.addressing import AddressGenerator

NO_OPERAND = 0xFFFF


class Opcode(enum.IntEnum):
    """What an instruction does."""

    LOAD_INPUT = 1
    LOAD_WEIGHT = 2
    LOAD_BIAS = 3
    MATMUL = 4
    STORE = 5


class Instruction(NamedTuple):
    """One instruction as plain Python values; addresses in bytes."""

    opcode: int
    operand: int
    group: int
    row: int
    column: int
    rows: int
    columns: int
    depth: int
    address: int
    weight_address: int
    accumulator_address: int
    low: float
    high: float


_FORMATS = ("<u2", "<u2", *["<u4"] * 9, "<f4", "<f4")
INSTRUCTION = np.dtype(list(zip(Instruction._fields, _FORMATS, strict=True)))


class Role(enum.IntEnum):
    """What an operand is to the layer."""

    INPUT = 1
    WEIGHT = 2
    BIAS = 3
    OUTPUT = 4


READERS = {
    Opcode.LOAD_INPUT: Role.INPUT,
    Opcode.LOAD_WEIGHT: Role.WEIGHT,
    Opcode.LOAD_BIAS: Role.BIAS,
    Opcode.STORE: Role.OUTPUT,
}


@dataclass(frozen=True)
class Operand:
    """A DRAM tensor of the layer, fp32, C-contiguous.

    Attributes
    ----------
    shape: the layer's view of it; an array of another shape with as many values serves.
    padding: zeros around the last two axes (top, left, bottom, right) that the
        generator's addresses count, though DRAM does not hold them.
    generator: where its rows and columns lie.
    """

    role: Role
    shape: tuple[int, ...]
    padding: tuple[int, int, int, int]
    generator: AddressGenerator

    @property
    def elements(self) -> int:
        """Values held in DRAM."""
        return math.prod(self.shape)

    @property
    def is_padded(self) -> bool:
        """Whether addresses count zeros around the operand."""
        return any(self.padding)

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """The shape that the generator's addresses walk over."""
        if not self.is_padded:
            return self.shape
        top, left, bottom, right = self.padding
        *outer, height, width = self.shape
        return (*outer, top + height + bottom, left + width + right)
