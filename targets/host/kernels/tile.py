"""The register tile that convolution and matrix product share.

``rows x vectors`` accumulators stay in registers while one reduction step reads ``vectors``
vectors of the right operand and ``rows`` single values of the left one, which are
broadcast: ``acc[r][v] += left[r] * right[v]``. Of integers, both hold pairs (``pairs``).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace

from tvm import tirx

from motet.targets.host.kernels.pairs import pair_product, pair_sum
from motet.targets.host.loops import (
    Expr,
    Stmt,
    allocate,
    broadcast,
    index,
    load,
    ramp,
    scratch,
    seq,
    store,
)  # fmt: skip
from motet.targets.host.machine import Machine


@dataclass(frozen=True)
class Tile:
    """``rows`` by ``vectors * lanes`` accumulators of type ``dtype``.

    multiply: the product of two vectors, where it is another than ``*``; accumulate: a sum plus
    such a product in one instruction, where they are one.
    """

    rows: int
    vectors: int
    lanes: int
    dtype: str
    multiply: Callable[[Expr, Expr], Expr] = operator.mul
    accumulate: Callable[[Expr, Expr, Expr], Expr] | None = None

    @property
    def columns(self) -> int:
        """Elements in a row of the tile."""
        return self.vectors * self.lanes

    def added(self, total: Expr, left: Expr, right: Expr) -> Expr:
        """``total`` plus the product of two vectors."""
        if self.accumulate is not None:
            return self.accumulate(total, left, right)
        return total + self.multiply(left, right)


def with_pairs(tile: Tile, machine: Machine) -> Tile:
    """``tile`` whose operands hold pairs of int16."""
    if machine.multiplies_bytes:
        return replace(tile, accumulate=pair_sum(machine, tile.lanes))
    return replace(tile, multiply=pair_product(machine, tile.lanes))


def lanes_of(machine: Machine, dtype: str) -> int:
    """Elements of type ``dtype`` in a vector register."""
    return machine.vector_bytes * 8 // int(tirx.const(0, dtype).ty.dtype.bits)


def tile_shapes(machine: Machine) -> tuple[tuple[int, int], ...]:
    """(rows, vectors) that fit the registers beside the operands: 16 of them, 32 with
    AVX-512.
    """
    if machine.vector_bytes == 64:
        return (12, 2), (8, 3), (6, 4), (14, 2), (4, 6), (3, 8), (2, 12), (1, 12), (8, 2), (4, 4)
    return (6, 2), (4, 3), (3, 4), (5, 2), (4, 2), (2, 6), (2, 4), (1, 8), (3, 2), (1, 4)


def choose_tile(
    machine: Machine, dtype: str, rows: int, columns: int, most_rows: int | None = None
) -> Tile:
    """The tile with the least padded work for a ``rows x columns`` result.

    Work is counted in multiply-accumulates: one per accumulator, and as measured a third of
    one for a broadcast load and 1.3 for a vector load, which mostly is not aligned. Fewer
    than eight accumulators cannot hide the latency of a multiply-accumulate. ``most_rows``
    forbids tiles with more rows.
    """
    lanes = lanes_of(machine, dtype)

    def cost(shape: tuple[int, int]) -> float:
        r, v = shape
        tiles = -(-rows // r) * -(-columns // (v * lanes))
        return tiles * (max(r * v, 8) + r / 3 + 1.3 * v)

    shapes = [s for s in tile_shapes(machine) if most_rows is None or s[0] <= most_rows]
    r, v = min(shapes, key=cost)
    return Tile(r, v, lanes, dtype)


def emit_tile(
    tile: Tile,
    steps: Callable[[Callable[[Callable[[int], Expr], Callable[[int], Expr]], Stmt]], Stmt],
    finish: Callable[[int, int, Expr], Stmt | None],
    start: Callable[[int, int], Expr] | None = None,
) -> Stmt:
    """One tile: accumulators set to zero, or to the vectors ``start(r, v)``, the reduction,
    then what becomes of them.

    ``steps(step)`` writes the reduction's loops around ``step(left, right)``, where
    ``left(r)`` is a single value and ``right(v)`` a vector; ``finish(r, v, value)`` stores
    the vector ``value``.
    """
    acc = [scratch(f"acc{r}", [tile.columns], tile.dtype) for r in range(tile.rows)]
    zero = broadcast(tirx.const(0, tile.dtype), tile.lanes)
    pairs = [(r, v) for r in range(tile.rows) for v in range(tile.vectors)]

    def lane(v: int) -> Expr:
        return ramp(index(v * tile.lanes), tile.lanes)

    def bound(name: str, value: Expr) -> tuple[Stmt, Expr]:
        var = tirx.Var(name, value.ty)
        return tirx.Bind(var, value), var

    def add(r: int, v: int, a: Expr, b: Expr) -> Stmt:
        return store(acc[r], tile.added(load(acc[r], lane(v)), a, b), lane(v))

    def step(left: Callable[[int], Expr], right: Callable[[int], Expr]) -> Stmt:
        def row(r: int) -> tuple[Stmt, Expr]:
            return bound(f"a{r}", broadcast(left(r), tile.lanes))

        def column(v: int) -> tuple[Stmt, Expr]:
            return bound(f"b{v}", right(v))

        # The side with fewer registers stays while the other one comes and goes.
        if tile.rows < tile.vectors:
            rows = [row(r) for r in range(tile.rows)]
            statements = [s for s, _ in rows]
            for v in range(tile.vectors):
                statement, b = column(v)
                statements += [statement, *[add(r, v, a, b) for r, (_, a) in enumerate(rows)]]
            return seq(*statements)
        columns = [column(v) for v in range(tile.vectors)]
        statements = [s for s, _ in columns]
        for r in range(tile.rows):
            statement, a = row(r)
            statements += [statement, *[add(r, v, a, b) for v, (_, b) in enumerate(columns)]]
        return seq(*statements)

    return seq(
        *[allocate(a) for a in acc],
        *[store(acc[r], start(r, v) if start else zero, lane(v)) for r, v in pairs],
        steps(step),
        *[finish(r, v, load(acc[r], lane(v))) for r, v in pairs],
    )
