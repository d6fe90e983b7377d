"""What instructions of the array touch, in plain sets of words.

Written from ``instructions/isa.py`` alone: it shares no code with checker or simulators.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from motet.targets.systolic.instructions.addressing import View
from motet.targets.systolic.instructions.isa import NO_OPERAND, Flag, Function, Opcode
from motet.targets.systolic.instructions.program import SystolicProgram

Words = tuple[tuple[str, int], set[int], bool]
"""A memory or tensor, the words of it, whether they are written."""


def addresses(view: View, group: int, row: int, column: int, rows: int, columns: int) -> set[int]:
    """Values of its tensor that a tile touches."""
    found = set()
    for r in range(row, row + rows):
        for c in range(column, column + columns):
            at = view.offset + group * view.group.stride
            for index, loops in ((r, view.rows), (c, view.columns)):
                for loop in reversed(loops):
                    at += index % loop.extent * loop.stride
                    index //= loop.extent
            found.add(_held(view, at))
    return found - {-1}


def _held(view: View, at: int) -> int:
    if not any(view.padding):
        return at
    height, width = view.shape[-2:]
    _, across = view.padded_shape[-2:]
    line, x = divmod(at, across)
    plane, y = divmod(line, view.padded_shape[-2])
    y, x = y - view.padding[0], x - view.padding[1]
    return (plane * height + y) * width + x if 0 <= y < height and 0 <= x < width else -1


def accesses(program: SystolicProgram, c: Any, held: list[int] | None = None) -> list[Words]:
    """All that instruction ``c`` reads and writes; reads first.

    held: gets the tensor that each is of where that is named by a view, else -1.
    """
    made = _Accesses(program, c, [] if held is None else held)
    opcode = Opcode(int(c["opcode"]))
    if opcode is Opcode.LOAD:
        made.load()
    elif opcode in (Opcode.MATMUL, Opcode.CONV1D):
        made.product(opcode is Opcode.CONV1D)
    elif opcode is Opcode.VECTOR:
        made.vector(int(c["function"]))
    elif opcode in (Opcode.STORE, Opcode.TRANSFER):
        made.move()
    return made.found


class _Accesses:
    """Those of one instruction, found one after another."""

    def __init__(self, program: SystolicProgram, c: Any, held: list[int]) -> None:
        self.program, self.c, self.held = program, c, held
        self.found: list[Words] = []
        self.flags, self.pod = Flag(int(c["flags"])), int(c["pod"])
        self.rows, self.columns, self.depth = int(c["rows"]), int(c["columns"]), int(c["depth"])
        self.tile = self.rows * self.columns
        self.targets = range(int(c["target_pod"]), int(c["target_pod"]) + int(c["target_pods"]))

    def note(self, memory: str, at: int, field: str, size: int, writes: bool) -> None:
        start = int(self.c[field])
        self.found.append(((memory, at), set(range(start, start + size)), writes))
        self.held.append(-1)

    def through(self, wide: int, writes: bool, pods: Iterable[int]) -> None:
        view = self.program.views[int(self.c["operand"])]
        tensor = self.program.tensors[view.tensor]
        place = int(self.c["group"]), int(self.c["row"]), int(self.c["column"])
        values = addresses(view, *place, self.rows, wide)
        if tensor.resident is None:
            self.found.append((("tensor", view.tensor), values, writes))
            self.held.append(view.tensor)
            return
        words = {tensor.resident + value for value in values}
        for at in pods:
            self.found.append((("pad", at), words, writes))
            self.held.append(view.tensor)

    def load(self) -> None:
        self.through(self.columns, False, ())
        in_sums = bool(self.flags & Flag.ACCUMULATORS)
        for at in self.targets:
            place = "accumulator_address" if in_sums else "address"
            self.note("sums" if in_sums else "pad", at, place, self.tile, True)

    def product(self, conv: bool) -> None:
        wide = (self.columns - 1) * int(self.c["value"]) + self.depth if conv else self.depth
        if self.flags & Flag.RESIDENT:
            self.through(wide, False, [self.pod])
        else:
            self.note("pad", self.pod, "address", self.rows * wide, False)
        across = self.rows if conv else self.columns
        self.note("pad", self.pod, "second_address", self.depth * across, False)
        if self.flags & Flag.BIAS:
            self.note("sums", self.pod, "third_address", across, False)
        if self.flags & Flag.ACCUMULATE:
            self.note("sums", self.pod, "accumulator_address", self.tile, False)
        self.note("sums", self.pod, "accumulator_address", self.tile, True)

    def vector(self, function: int) -> None:
        if function in (Function.COPY, Function.ADD, Function.MULTIPLY, Function.MAXIMUM):
            if self.flags & Flag.RESIDENT:
                self.through(self.columns, False, [self.pod])
            else:
                memory = "sums" if self.flags & Flag.ACCUMULATORS else "pad"
                self.note(memory, self.pod, "second_address", self.tile, False)
        if function in (Function.COLUMN_SCALE, Function.COLUMN_ADD, Function.REQUANTISE):
            self.note("sums", self.pod, "third_address", self.columns, False)
        reduces = function in (Function.ROW_MAXIMUM, Function.ROW_SUM, Function.ROW_SUM_SQUARES)
        joins = reduces and self.flags & Flag.ACCUMULATE
        by_row = (Function.ROW_SUBTRACT, Function.ROW_MULTIPLY, Function.ROW_REQUANTISE)
        if function in by_row or joins:
            self.note("sums", self.pod, "third_address", self.rows, False)
        if function != Function.COPY:
            self.note("sums", self.pod, "accumulator_address", self.tile, False)
        self.note("sums", self.pod, "accumulator_address", self.tile, True)
        if reduces:
            self.note("sums", self.pod, "third_address", self.rows, True)

    def move(self) -> None:
        viewed = int(self.c["operand"]) != NO_OPERAND
        in_sums = viewed or bool(self.flags & Flag.ACCUMULATORS)
        source = "accumulator_address" if in_sums else "second_address"
        self.note("sums" if in_sums else "pad", self.pod, source, self.tile, False)
        if viewed:
            self.through(self.columns, True, self.targets)
            return
        for at in self.targets:
            place = "third_address" if in_sums else "address"
            self.note("sums" if in_sums else "pad", at, place, self.tile, True)
