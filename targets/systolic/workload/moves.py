"""Layers that compute nothing: values go to other places.

Each is a list of *pieces*: nested loops that read one input and write the output. Where a
concatenation or a slice is a stretch of values, ``join_parts`` does without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from motet.targets.systolic.instructions.addressing import MAX_LOOPS, Loop
from motet.targets.systolic.workload.limits import require, require_size


class Piece(NamedTuple):
    """Values of input number ``input`` and their places in the output, as matrices.

    source, target: (offset, row loops, column loops), of the same extents; at most three
    loops each. The longer side of the matrix is its rows.
    """

    input: int
    source: tuple[int, tuple[Loop, ...], tuple[Loop, ...]]
    target: tuple[int, tuple[Loop, ...], tuple[Loop, ...]]

    @property
    def rows(self) -> int:
        """Rows of the matrix."""
        return math.prod(loop.extent for loop in self.target[1])

    @property
    def columns(self) -> int:
        """Columns of the matrix."""
        return math.prod(loop.extent for loop in self.target[2])


@dataclass(frozen=True)
class Permute:
    """Axes of a tensor of ``shape`` in another order: output axis i is input axis ``axes[i]``."""

    shape: tuple[int, ...]
    axes: tuple[int, ...]

    def __post_init__(self) -> None:
        _require_positive(self.shape, self)
        is_order = sorted(self.axes) == [*range(len(self.shape))]
        require(is_order, self, "axes must name every axis once")
        _require_loops(self.pieces, self)

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the inputs."""
        return (self.shape,)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return tuple(self.shape[axis] for axis in self.axes)

    @property
    def macs(self) -> int:
        """None."""
        return 0

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All of it is one."""
        strides = _strides(self.shape)
        source = [strides[axis] for axis in self.axes]
        shape = self.output_shape
        return (_piece(0, shape, (0, source), (0, _strides(shape))),)


@dataclass(frozen=True)
class Concat:
    """Inputs [outer, size] of several ``sizes``, side by side: [outer, sum of sizes]."""

    outer: int
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        _require_positive((self.outer, *self.sizes), self)

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the inputs."""
        return tuple((self.outer, size) for size in self.sizes)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return self.outer, sum(self.sizes)

    @property
    def macs(self) -> int:
        """None."""
        return 0

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each input begins in a row of the output."""
        return tuple(sum(self.sizes[:i]) for i in range(len(self.sizes)))

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """One per input."""
        total = sum(self.sizes)
        return tuple(
            _piece(i, (self.outer, size), (0, [size, 1]), (offset, [total, 1]))
            for i, (size, offset) in enumerate(zip(self.sizes, self.offsets, strict=True))
        )


@dataclass(frozen=True)
class Slice:
    """Of every axis of ``shape`` the values begin, begin + step, ..., ``lengths`` of them."""

    shape: tuple[int, ...]
    begins: tuple[int, ...]
    lengths: tuple[int, ...]
    steps: tuple[int, ...]

    def __post_init__(self) -> None:
        _require_positive((*self.shape, *self.lengths), self)
        walks = zip(self.shape, self.begins, self.lengths, self.steps, strict=True)
        inside = [
            begin in range(size) and begin + (length - 1) * step in range(size)
            for size, begin, length, step in walks
        ]
        require(all(inside), self, "a slice must lie inside its tensor")
        _require_loops(self.pieces, self)

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the inputs."""
        return (self.shape,)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return self.lengths

    @property
    def macs(self) -> int:
        """None."""
        return 0

    @property
    def offset(self) -> int:
        """Where the first value lies in the input."""
        return sum(b * stride for b, stride in zip(self.begins, _strides(self.shape), strict=True))

    @property
    def is_stretch(self) -> bool:
        """Whether the values lie one after another in the input."""
        loops = [loop for loop in self._source_loops if loop.extent > 1]
        own = _strides([loop.extent for loop in loops])
        return [loop.stride for loop in loops] == own

    @property
    def _source_loops(self) -> list[Loop]:
        strides = _strides(self.shape)
        return [
            Loop(n, step * stride)
            for n, step, stride in zip(self.lengths, self.steps, strides, strict=True)
        ]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All of it is one."""
        source = [loop.stride for loop in self._source_loops]
        target = (0, _strides(self.lengths))
        return (_piece(0, self.lengths, (self.offset, source), target),)


@dataclass(frozen=True)
class Upsample:
    """Every value of [planes, height, width] ``factors`` times along height and width."""

    planes: int
    height: int
    width: int
    factors: tuple[int, int]

    def __post_init__(self) -> None:
        _require_positive((self.planes, self.height, self.width, *self.factors), self)

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the inputs."""
        return ((self.planes, self.height, self.width),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return self.planes, self.height * self.factors[0], self.width * self.factors[1]

    @property
    def macs(self) -> int:
        """None."""
        return 0

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All of it is one; loops of stride 0 read a value again."""
        (down, across), wide = self.factors, self.output_shape[-1]
        extents = (self.planes * self.height, down, self.width, across)
        target = [down * wide, wide, across, 1]
        return (_piece(0, extents, (0, [self.width, 0, 1, 0]), (0, target)),)


Move = Permute | Concat | Slice | Upsample


def _strides(shape: Sequence[int]) -> list[int]:
    """Of a contiguous tensor."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


Walk = tuple[int, Sequence[int]]
"""An offset, and a stride for every axis."""


def _piece(number: int, extents: Sequence[int], source: Walk, target: Walk) -> Piece:
    """The fewest loops that make both walks, cut into rows and columns."""
    joined: list[tuple[int, int, int]] = []
    for extent, *strides in zip(extents, source[1], target[1], strict=True):
        if extent == 1:
            continue
        if joined and list(joined[-1][1:]) == [extent * stride for stride in strides]:
            extent *= joined.pop()[0]
        joined.append((extent, strides[0], strides[1]))
    joined = joined or [(1, 0, 0)]
    cut = max(1, min(len(joined) - 1, MAX_LOOPS))
    sides = [joined[:cut], joined[cut:] or [(1, 0, 0)]]
    sides.sort(key=lambda side: -math.prod(loop[0] for loop in side))
    rows, columns = sides
    return Piece(
        number,
        (source[0], _loops(rows, 1), _loops(columns, 1)),
        (target[0], _loops(rows, 2), _loops(columns, 2)),
    )


def _loops(joined: Sequence[tuple[int, int, int]], stride: int) -> tuple[Loop, ...]:
    return tuple(Loop(loop[0], loop[stride]) for loop in joined)


def _require_positive(sizes: Sequence[int], layer: Move) -> None:
    require(min(sizes, default=0) >= 1, layer, "sizes must be positive")
    for shape in (*layer.input_shapes, layer.output_shape):
        require_size(math.prod(shape), layer)


def _require_loops(pieces: Sequence[Piece], layer: Move) -> None:
    loops = [len(side) for piece in pieces for side in piece.target[1:]]
    require(max(loops) <= MAX_LOOPS, layer, "it moves more than six axes that lie apart")
