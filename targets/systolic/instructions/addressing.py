"""Views of tensors: nested-loop address generators, as in real accelerators' DMA engines.

A view sees a tensor as ``groups`` matrices of rows and columns. Row and column numbers
are decomposed over up to three loops each (mixed radix, last loop fastest), and every
loop adds index x stride to the address: value (group, row, column) lies at

    offset + group x group stride + row loops + column loops

in the padded tensor: zeros around the last two axes (top, left, bottom, right) that
the addresses count though no memory holds them. im2col is such a loop nest: a row is
(batch, output y, output x), a column (channel, kernel y, kernel x). Strides may be
negative (a transposed convolution reads its kernel backwards).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAX_LOOPS = 3
NO_PADDING = (0, 0, 0, 0)


class Loop(NamedTuple):
    """``extent`` steps of ``stride`` values (not bytes) each."""

    extent: int
    stride: int


@dataclass(frozen=True)
class View:
    """Groups of matrices in tensor number ``tensor`` of the program.

    Attributes
    ----------
    shape: the tensor as the padding sees it, [..., height, width]; at most 4 axes.
    padding: zeros around the last two axes: top, left, bottom, right.
    group, rows, columns: the loops; ``offset`` is where they start, in values of the padded
        tensor.
    """

    tensor: int
    shape: tuple[int, ...]
    group: Loop
    rows: tuple[Loop, ...]
    columns: tuple[Loop, ...]
    padding: tuple[int, int, int, int] = NO_PADDING
    offset: int = 0

    @property
    def row_count(self) -> int:
        """Rows of each group's matrix."""
        return math.prod(loop.extent for loop in self.rows)

    @property
    def column_count(self) -> int:
        """Columns of each group's matrix."""
        return math.prod(loop.extent for loop in self.columns)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """All loops, outermost first."""
        return self.group, *self.rows, *self.columns

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """The shape that the addresses walk over."""
        if not any(self.padding):
            return self.shape
        top, left, bottom, right = self.padding
        *outer, height, width = self.shape
        return (*outer, top + height + bottom, left + width + right)

    @property
    def first_address(self) -> int:
        """The lowest address that any loop index reaches, in values of the padded tensor."""
        return self.offset + sum(min(0, (x.extent - 1) * x.stride) for x in self.loops)

    @property
    def last_address(self) -> int:
        """The highest address that any loop index reaches."""
        return self.offset + sum(max(0, (x.extent - 1) * x.stride) for x in self.loops)


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
