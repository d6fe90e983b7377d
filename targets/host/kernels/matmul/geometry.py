"""The extents of a matrix product, and the problem they are to the schedule space.

Batch axes that the right operand does not have are folded into the rows: ``[S, 1, K]`` times
``[K, N]`` is one product of S rows, not S products of one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from motet.targets.host.exprs import is_axis, loads, substitute, walk
from motet.targets.host.kernels.operand import Operand
from motet.targets.host.loops import Expr, constant_of, index, product, simplify
from motet.targets.host.space import Problem
from motet.targets.host.stages import Axis, Stage

FAMILY_NAME = "matmul"


@dataclass(frozen=True, eq=False)
class Geometry:
    """``y[lead, row, column] = sum_k a[lead, row, k] b[lead, k, column]``.

    folded: how many batch axes, the last ones, are counted among the rows.
    """

    anchor: Stage
    folded: int

    @property
    def lead(self) -> list[Expr]:
        """Extents of the batch axes that are left."""
        return [a.extent for a in self.anchor.spatial[: -2 - self.folded]]

    @property
    def row_axes(self) -> tuple[Axis, ...]:
        """The axes that make up the rows."""
        return self.anchor.spatial[-2 - self.folded : -1]

    @property
    def rows(self) -> Expr:
        """Rows of one product."""
        return product([a.extent for a in self.row_axes])

    @property
    def columns(self) -> Expr:
        """Columns of the result."""
        return self.anchor.spatial[-1].extent

    @property
    def depth(self) -> Expr:
        """Length of the sums."""
        return self.anchor.reduction[0].extent

    def place(self, lead: Sequence[Expr], row: Expr) -> list[Expr]:
        """Where row ``row`` of product ``lead`` lies: the indices before the column."""
        parts: list[Expr] = []
        for axis in reversed(self.row_axes[1:]):
            parts.append(tirx.floormod(row, axis.extent))
            row = tirx.floordiv(row, axis.extent)
        return [*lead, *map(simplify, [row, *reversed(parts)])]

    def operand(self, which: int, lead: Sequence[Expr], row: Expr) -> list[Expr]:
        """Indices of the left (0) or right (1) operand but its last two (right) or one."""
        accesses = [x for x in loads(self.anchor.value) if not x.source.same_as(self.anchor.output)]
        values = [*self.place(lead, row), index(0)]
        axes = {a.var: v for a, v in zip(self.anchor.spatial, values, strict=True)}
        axes[self.anchor.reduction[0].var] = index(0)
        count = len(accesses[which].indices) - (2 if which else 1)
        return [substitute(i, axes) for i in accesses[which].indices[:count]]


def geometry_of(anchor: Stage) -> Geometry:
    """The product that ``anchor`` is, with as many batch axes as possible in its rows: from
    the last one, as long as the axis behind is of known extent.
    """
    left, right = (x for x in loads(anchor.value) if not x.source.same_as(anchor.output))
    folded = 0
    for axis, inner in zip(anchor.spatial[-3::-1], anchor.spatial[-2::-1], strict=False):
        if constant_of(inner.extent) is None:  # rows are told apart by dividing by it
            break
        mentioned = [any(is_axis(e, axis.var) for e in walk(x)) for x in (left, right)]
        if mentioned[1] or not (mentioned[0] or constant_of(axis.extent) == 1):
            break
        folded += 1
    return Geometry(anchor, folded)


def _size(extent: Expr) -> int:
    size = constant_of(extent)
    return -1 if size is None else size


def problem_of(
    geometry: Geometry, right: Operand, constant: bool, paired: bool, transposed: bool
) -> Problem:
    """What the schedule space is looked up by.

    constant: whether the right operand can be packed when the kernel is made; paired: whether
    integers are multiplied in pairs; transposed: whether the right operand lies in memory
    column by column. ``computed``: whether its elements are computed, or moved, as they are
    read. ``bits``: of an accumulator.
    """
    bits = tirx.const(0, str(geometry.anchor.output.dtype)).ty.dtype.bits
    return Problem.of(
        FAMILY_NAME,
        batch=_size(product(geometry.lead)) if geometry.lead else 1,
        rows=_size(geometry.rows), columns=_size(geometry.columns), depth=_size(geometry.depth),
        constant=int(constant), paired=int(paired), transposed=int(transposed),
        computed=int(right.stage is not None), bits=int(bits),
    )  # fmt: skip
