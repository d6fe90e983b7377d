"""Bytes between DRAM and the on-chip memories, counted load by load.

A load reads each DRAM value of its tile once: the gather unit repeats values that
im2col shows several times, and makes padding's zeros itself. A store writes its tile.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cache

import numpy as np

from motet.runtime.device import Array
from motet.targets.systolic.addressing import Loop
from motet.targets.systolic.description import FP32_BYTES
from motet.targets.systolic.isa import NO_OPERAND, Opcode, Operand, Role
from motet.targets.systolic.program import SystolicProgram


def dram_bytes(program: SystolicProgram) -> tuple[int, int]:
    """Bytes (read from, written to) DRAM by one run."""
    reads, writes = 0, 0
    gathers = [_Gather(operand) for operand in program.operands]
    instructions = program.instructions
    transfers = instructions[instructions["opcode"] != Opcode.MATMUL]
    fields = ["opcode", "operand", "row", "column", "rows", "columns"]
    for opcode, operand, row, column, rows, columns in transfers[fields].tolist():
        if opcode == Opcode.STORE:
            writes += rows * columns
        elif operand != NO_OPERAND:
            reads += gathers[operand].values(row, rows, column, columns)
    return reads * FP32_BYTES, writes * FP32_BYTES


class _Gather:
    """Counts the different DRAM values of an operand's tiles."""

    def __init__(self, operand: Operand) -> None:
        self._operand = operand
        self._plain = operand.generator.is_injective and not operand.is_padded
        self._segments = cache(self._find_segments)
        self._count = cache(self._count_segment)

    def values(self, row: int, rows: int, column: int, columns: int) -> int:
        """Different values of the tile at (row, column); padding is not counted."""
        if self._operand.role is Role.BIAS:
            return columns
        if self._plain:
            return rows * columns
        segments = self._segments(column, columns)
        return sum(self._count(row, rows, segment) for segment in segments)

    @property
    def _plane(self) -> int:
        """Values of a channel with its padding; two channels share none."""
        return math.prod(self._operand.padded_shape[-2:])

    def _find_segments(self, column: int, columns: int) -> list[tuple[int, ...]]:
        """The tile's columns by channel: each channel's offsets inside it."""
        channels: dict[int, list[int]] = defaultdict(list)
        for offset in _offsets(self._operand.generator.columns, column, columns).tolist():
            channels[offset // self._plane].append(offset % self._plane)
        return [tuple(offsets) for offsets in channels.values()]

    def _count_segment(self, row: int, rows: int, segment: tuple[int, ...]) -> int:
        """DRAM values that one channel's columns show in the given rows."""
        offsets = _offsets(self._operand.generator.rows, row, rows)
        first = int(offsets.min()) + min(segment)
        touched = np.zeros(int(offsets.max()) + max(segment) + 1 - first, np.bool_)
        for offset in segment:
            touched[offsets + (offset - first)] = True
        return self._held(np.flatnonzero(touched) + first)

    def _held(self, addresses: Array) -> int:
        """How many of ``addresses`` lie inside the padding."""
        if not self._operand.is_padded:
            return len(addresses)
        top, left, _, _ = self._operand.padding
        height, width = self._operand.shape[-2:]
        y, x = np.divmod(addresses % self._plane, self._operand.padded_shape[-1])
        inside = (y >= top) & (y < top + height) & (x >= left) & (x < left + width)
        return int(np.count_nonzero(inside))


def _offsets(loops: Sequence[Loop], start: int, count: int) -> Array:
    """Addresses of ``count`` consecutive indices over nested ``loops``, int64 [count]."""
    indices = np.unravel_index(np.arange(start, start + count), [loop.extent for loop in loops])
    total = np.zeros(count, np.int64)
    for index, loop in zip(indices, loops, strict=True):
        total += index * loop.stride
    return total
