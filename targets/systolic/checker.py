"""The rules of the machine, checked on every program before it runs.

1. Operands: an input, a weight, perhaps a bias, an output; every address of every
   generator lies inside its operand, and the output's generator meets each value
   of the output exactly once.
2. Tiles are not empty, lie inside their operand's rows and columns, and a MATMUL's
   fit the array.
3. Regions lie inside their memory. What a MATMUL or STORE reads is exactly a region
   that a load (or MATMUL) filled and nothing overwrote since.
4. Double buffering: no load overwrites what the MATMUL just before it works on,
   which is what lets the two overlap in time.
5. The STOREs cover the output exactly once, and the program's macs are those of its
   MATMULs.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any, NamedTuple

import numpy as np

from motet.runtime.errors import ProgramError
from motet.targets.systolic.description import FP32_BYTES, ArrayDescription
from motet.targets.systolic.isa import (
    NO_OPERAND,
    READERS,
    Instruction,
    Opcode,
    Operand,
    Role,
)
from motet.targets.systolic.layers import MAX_ELEMENTS
from motet.targets.systolic.program import SystolicProgram

ROLES = (
    (Role.INPUT, Role.WEIGHT, Role.OUTPUT),
    (Role.INPUT, Role.WEIGHT, Role.BIAS, Role.OUTPUT),
)


class Region(NamedTuple):
    """A tile in a memory: [start, stop) in bytes, and the tile's shape."""

    start: int
    stop: int
    rows: int
    columns: int


def check_program(program: SystolicProgram, description: ArrayDescription) -> None:
    """Raise ``ProgramError`` naming the first instruction that breaks a rule."""
    if tuple(operand.role for operand in program.operands) not in ROLES:
        raise ProgramError("array program: operands must be input, weight, perhaps bias, output")
    for index, operand in enumerate(program.operands):
        _check_operand(index, operand)
    run = _Run(program, description)
    for index, values in enumerate(program.instructions.tolist()):
        run.step(index, Instruction(*values))
    run.finish()


def _check_operand(index: int, operand: Operand) -> None:
    """Rule 1."""
    if operand.is_padded and (operand.role is not Role.INPUT or len(operand.shape) != 4):
        raise ProgramError(f"array program: operand {index} must not be padded")
    generator = operand.generator
    sizes = (*operand.shape, *(loop.extent for loop in generator.loops))
    size = math.prod(operand.padded_shape)
    if min(sizes) < 1 or size > MAX_ELEMENTS or generator.last_address >= size:
        raise ProgramError(f"array program: operand {index} is empty, too large, or left by loops")
    covered = generator.is_bijective and generator.last_address == size - 1
    if operand.role is Role.OUTPUT and not covered:
        raise ProgramError(f"array program: operand {index} is not written exactly once")


class Memory:
    """Which tiles lie where in one on-chip memory."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._starts: list[int] = []
        self._regions: list[Region] = []

    def region(self, address: int, rows: int, columns: int) -> Region:
        """The region of a tile; raises ``ProgramError`` where it leaves the memory."""
        stop = address + rows * columns * FP32_BYTES
        if stop > self._size or address % FP32_BYTES:
            raise ProgramError(
                f"bytes {address} to {stop} do not lie on words of the {self._name} "
                f"of {self._size} bytes"
            )
        return Region(address, stop, rows, columns)

    def fill(self, region: Region) -> None:
        """A load: whatever overlaps is gone."""
        first = bisect_left(self._starts, region.start)
        if first and self._regions[first - 1].stop > region.start:
            first -= 1
        last = bisect_left(self._starts, region.stop)
        self._starts[first:last] = [region.start]
        self._regions[first:last] = [region]

    def check_filled(self, region: Region) -> None:
        """A read: exactly this tile must have been loaded."""
        index = bisect_left(self._starts, region.start)
        if index == len(self._starts) or self._regions[index] != region:
            raise ProgramError(
                f"no {region.rows}x{region.columns} tile was loaded at byte {region.start} "
                f"of the {self._name}"
            )


class _Run:
    """The state of checking, instruction by instruction."""

    def __init__(self, program: SystolicProgram, description: ArrayDescription) -> None:
        self._program = program
        self._description = description
        self._scratchpad = Memory("scratchpad", description.scratchpad_bytes)
        self._sums = Memory("accumulator memory", description.accumulator_bytes)
        self._busy: tuple[tuple[Memory, Region], ...] = ()
        self._stores: list[Instruction] = []
        self._macs = 0

    def step(self, index: int, fields: Instruction) -> None:
        try:
            if fields.opcode == Opcode.MATMUL:
                self._matmul(fields)
            else:
                self._transfer(fields)
        except ProgramError as error:
            name = Opcode(fields.opcode).name
            raise ProgramError(f"array program, instruction {index} ({name}): {error}") from None

    def _transfer(self, fields: Instruction) -> None:
        self._check_place(fields)
        on_scratchpad = fields.opcode in (Opcode.LOAD_INPUT, Opcode.LOAD_WEIGHT)
        memory = self._scratchpad if on_scratchpad else self._sums
        region = memory.region(fields.address, fields.rows, fields.columns)
        if fields.opcode == Opcode.STORE:
            memory.check_filled(region)
            self._check_clamp(fields)
            self._stores.append(fields)
            return
        for busy_memory, busy in self._busy:
            if busy_memory is memory and busy.start < region.stop and region.start < busy.stop:
                raise ProgramError("overwrites a tile that the MATMUL before it works on")
        memory.fill(region)

    def _check_place(self, fields: Instruction) -> None:
        """Rule 2 for loads and stores."""
        if min(fields.rows, fields.columns) < 1:
            raise ProgramError("the tile is empty")
        if fields.operand == NO_OPERAND and fields.opcode == Opcode.LOAD_BIAS:
            return
        role = READERS[Opcode(fields.opcode)]
        operands = self._program.operands
        if fields.operand >= len(operands) or operands[fields.operand].role is not role:
            raise ProgramError(f"operand {fields.operand} is not the layer's {role.name.lower()}")
        generator = operands[fields.operand].generator
        if (
            fields.group >= generator.group.extent
            or fields.row + fields.rows > generator.row_count
            or fields.column + fields.columns > generator.column_count
        ):
            raise ProgramError("the tile leaves its operand")

    @staticmethod
    def _check_clamp(fields: Instruction) -> None:
        if not fields.low <= fields.high:
            raise ProgramError(f"limits {fields.low} to {fields.high} are not in order")

    def _matmul(self, fields: Instruction) -> None:
        rows, columns, depth = fields.rows, fields.columns, fields.depth
        if min(rows, columns, depth) < 1:
            raise ProgramError("the tile is empty")
        if depth > self._description.rows or columns > self._description.columns:
            raise ProgramError(
                f"a {depth}x{columns} weight tile does not fit the "
                f"{self._description.rows}x{self._description.columns} array"
            )
        inputs = self._scratchpad.region(fields.address, rows, depth)
        weights = self._scratchpad.region(fields.weight_address, depth, columns)
        sums = self._sums.region(fields.accumulator_address, rows, columns)
        self._scratchpad.check_filled(inputs)
        self._scratchpad.check_filled(weights)
        self._sums.check_filled(sums)
        self._busy = ((self._scratchpad, inputs), (self._scratchpad, weights), (self._sums, sums))
        self._macs += rows * columns * depth

    def finish(self) -> None:
        """Rule 5."""
        if self._macs != self._program.macs:
            raise ProgramError(
                f"array program: {self._program.macs} macs stated, {self._macs} in its MATMULs"
            )
        generator = self._program.operands[-1].generator
        shape = (generator.group.extent, generator.column_count, generator.row_count)
        stored = sum(fields.rows * fields.columns for fields in self._stores)
        if stored == math.prod(shape):
            written = np.zeros(shape, np.bool_)
            for fields in self._stores:
                written[_place(fields)] = True
            if written.all():
                return
        raise ProgramError("array program: the STOREs do not cover the output exactly once")


def _place(fields: Instruction) -> tuple[Any, ...]:
    columns = slice(fields.column, fields.column + fields.columns)
    return fields.group, columns, slice(fields.row, fields.row + fields.rows)
