"""How the tiles of a matrix product lie in DRAM operands: nested-loop address generators.

To the array every operand is ``groups`` matrices of rows and columns. An
``AddressGenerator`` says where value (group, row, column) lies: row and column
numbers are decomposed over up to three loops each (mixed radix, last loop
fastest), and every loop adds index x stride to the address, as in the address
generation units of real accelerators. im2col is such a loop nest: for a
convolution's input a row is (batch, output y, output x) and a column (channel,
kernel y, kernel x), over the operand padded with zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

MAX_LOOPS = 3


class Loop(NamedTuple):
    """``extent`` steps of ``stride`` values (not bytes) each."""

    extent: int
    stride: int


@dataclass(frozen=True)
class AddressGenerator:
    """Value (g, r, c) lies at g x group.stride + the row loops + the column loops."""

    group: Loop
    rows: tuple[Loop, ...]
    columns: tuple[Loop, ...]

    @property
    def loops(self) -> tuple[Loop, ...]:
        """All loops, outermost first."""
        return self.group, *self.columns, *self.rows

    @cached_property
    def row_count(self) -> int:
        """Rows of each group's matrix."""
        return math.prod(loop.extent for loop in self.rows)

    @cached_property
    def column_count(self) -> int:
        """Columns of each group's matrix."""
        return math.prod(loop.extent for loop in self.columns)

    @property
    def last_address(self) -> int:
        """The highest address that any loop index reaches, in values."""
        return sum((loop.extent - 1) * loop.stride for loop in self.loops)

    @property
    def is_bijective(self) -> bool:
        """Whether every address from 0 to the last is met exactly once."""
        expected = 1
        for loop in sorted((x for x in self.loops if x.extent > 1), key=lambda x: x.stride):
            if loop.stride != expected:
                return False
            expected *= loop.extent
        return True

    @property
    def is_injective(self) -> bool:
        """Whether no address is met twice (a sufficient condition: strides nest)."""
        reach = 0
        for loop in sorted((x for x in self.loops if x.extent > 1), key=lambda x: x.stride):
            if loop.stride <= reach:
                return False
            reach += (loop.extent - 1) * loop.stride
        return True


def merged(loops: Sequence[Loop]) -> tuple[Loop, ...]:
    """The same addresses with the fewest loops: no single steps, contiguous loops joined."""
    result: list[Loop] = []
    for loop in loops:
        if loop.extent == 1:
            continue
        if result and result[-1].stride == loop.extent * loop.stride:
            outer = result.pop()
            result.append(Loop(outer.extent * loop.extent, loop.stride))
        else:
            result.append(loop)
    return tuple(result) or (Loop(1, 0),)


def rectangles(start: int, stop: int, extents: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Cut the linear range [start, stop) over nested loops into boxes, in linear order."""
    if len(extents) == 1:
        yield (slice(start, stop),)
        return
    inner = extents[1:]
    size = math.prod(inner)
    (first, head), (last, tail) = divmod(start, size), divmod(stop, size)
    if first == last:
        yield from _in_step(first, head, tail, inner)
        return
    if head:
        yield from _in_step(first, head, size, inner)
        first += 1
    if first < last:
        yield (slice(first, last), *(slice(0, extent) for extent in inner))
    if tail:
        yield from _in_step(last, 0, tail, inner)


def _in_step(step: int, start: int, stop: int, inner: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    for box in rectangles(start, stop, inner):
        yield (slice(step, step + 1), *box)
