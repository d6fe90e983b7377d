"""Winograd's input and output transforms of one tile, in vector registers.

Every value is a vector over the channels of a block. A transform applies a matrix along the
columns of a tile and then along its rows. Points come in pairs ``+-p`` (``winograd_matrices``):
what two of them compute from even and from odd powers is the same but for a sign, so that a
pair takes two operations more than one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tvm import tirx

from motet.targets.host.kernels.blocked_conv.winograd_matrices import Matrix
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    broadcast,
    index,
    load,
    loop,
    ramp,
    seq,
    store,
)  # fmt: skip


@dataclass
class Lines:
    """Statements in the making, over vectors of ``lanes`` of ``dtype``."""

    lanes: int
    dtype: str
    statements: list[Stmt] = field(default_factory=list)

    def bind(self, value: Expr) -> Expr:
        """A variable of ``value``."""
        var = tirx.Var(f"t{len(self.statements)}", value.ty)
        self.statements.append(tirx.Bind(var, value))
        return var

    def scaled(self, factor: float, value: Expr) -> Expr:
        """``factor * value``; of integers modulo their size."""
        if self.dtype.startswith(("int", "uint")):
            wrapped = int(factor) % 2**32 if self.dtype == "uint32" else int(factor)
            return broadcast(tirx.const(wrapped, self.dtype), self.lanes) * value
        return broadcast(tirx.const(factor, self.dtype), self.lanes) * value

    def plus(self, total: Expr | None, factor: float, value: Expr) -> Expr | None:
        """``total + factor * value``; None stands for zero."""
        if factor == 0:
            return total
        if total is None:
            return value if factor == 1 else self.scaled(factor, value)
        if abs(factor) == 1:
            return total + value if factor == 1 else total - value
        if factor < 0:
            return total - self.scaled(-factor, value)
        return total + self.scaled(factor, value)

    def combined(self, factors: Sequence[float], values: Sequence[Expr]) -> Expr:
        """The sum of ``values`` times ``factors``, those of 1 first: they need no product."""
        order = sorted(range(len(factors)), key=lambda k: factors[k] != 1)
        total = None
        for k in order:
            total = self.plus(total, factors[k], values[k])
        assert total is not None
        return self.bind(total)


def transform_inputs(lines: Lines, matrix: Matrix, values: Sequence[Expr]) -> list[Expr]:
    """``B^T`` times a vector of ``values``."""
    result = [lines.combined(matrix[0], values)]
    for row in matrix[1:-1:2]:
        odd = [c if k % 2 else 0.0 for k, c in enumerate(row)]
        lead = next(c for c in reversed(odd) if c)
        evens = lines.combined([0.0 if k % 2 else c for k, c in enumerate(row)], values)
        odds = lines.combined([c / lead for c in odd], values)
        both = [lines.plus(evens, factor, odds) for factor in (lead, -lead)]
        result += [lines.bind(value) for value in both]
    return [*result, lines.combined(matrix[-1], values)]


def transform_outputs(lines: Lines, matrix: Matrix, values: Sequence[Expr]) -> list[Expr]:
    """``A^T`` times a vector of ``values``."""
    pairs = range(1, len(values) - 1, 2)
    sums = [lines.bind(values[k] + values[k + 1]) for k in pairs]
    differences = [lines.bind(values[k] - values[k + 1]) for k in pairs]
    result = []
    for i, row in enumerate(matrix):
        factors = [row[0], row[-1], *(row[k] for k in pairs)]
        terms = [values[0], values[-1], *(differences if i % 2 else sums)]
        result.append(lines.combined(factors, terms))
    return result


@dataclass(frozen=True, eq=False)
class TileTransform:
    """``matrix d matrix^T`` of tiles ``d``, by way of ``half``, ``matrix d`` in memory.

    half: at least rows x columns vectors. Both passes are loops: the values between them do
    not fit the registers, and unrolled they are most of a kernel's code.
    """

    matrix: Matrix
    apply: Callable[[Lines, Matrix, Sequence[Expr]], list[Expr]]
    lanes: int
    dtype: str
    half: Buffer

    @property
    def columns(self) -> int:
        """Positions of ``d`` along an axis."""
        return len(self.matrix[0])

    def _slot(self, i: int | Expr, j: int | Expr) -> Expr:
        return ramp((index(i) * self.columns + j) * self.lanes, self.lanes)

    def statement(
        self, column: Callable[[Lines, Expr], list[Expr]], rows: Expr,
        finish: Callable[[Expr, list[Expr]], Stmt],
    ) -> Stmt:  # fmt: skip
        """``column(lines, j)`` gives the vectors of column j of the tile; what it takes to
        read them it writes to ``lines``. The first ``rows`` rows of the result, each a list
        of vectors, go to the statement ``finish(i, values)``.
        """

        def along_columns(j: Expr) -> Stmt:
            lines = Lines(self.lanes, self.dtype)
            results = self.apply(lines, self.matrix, column(lines, j))
            stores = [store(self.half, v, self._slot(i, j)) for i, v in enumerate(results)]
            return seq(*lines.statements, *stores)

        def along_rows(i: Expr) -> Stmt:
            lines = Lines(self.lanes, self.dtype)
            slots = [self._slot(i, j) for j in range(self.columns)]
            values = [lines.bind(load(self.half, slot)) for slot in slots]
            results = self.apply(lines, self.matrix, values)
            return seq(*lines.statements, finish(i, results))

        return seq(loop("j", self.columns, along_columns), loop("i", rows, along_rows))
