"""A matrix product of few rows by a right operand that lies column by column: dot products.

    for batch, part of the columns: parallel
        for ``vectors`` columns at a time, ``rows`` rows at a time:
            acc[row][column] += a[row, k] * b[column, k]     for all k, a vector at a time
            y[row, column] = epilogue(acc summed)

Every element of the right operand is read once, where it is. Sums are reassociated: each
lane takes every ``lanes``-th product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from motet.targets.host.kernels.epilogue import Epilogue
from motet.targets.host.kernels.matmul.geometry import Geometry
from motet.targets.host.kernels.operand import Operand
from motet.targets.host.loops import (
    VECTORIZED,
    Buffer,
    Expr,
    Stmt,
    allocate,
    constant_of,
    index,
    load,
    loop,
    parallel,
    scratch,
    seq,
    simplify,
    store,
)  # fmt: skip
from motet.targets.host.space import Point


@dataclass(frozen=True, eq=False)
class Dots:
    """A product to write; ``lanes``: accumulators in a vector."""

    geometry: Geometry
    point: Point
    left: Buffer
    right: Operand
    epilogue: Epilogue
    lanes: int

    @property
    def dtype(self) -> str:
        """Type of the sums."""
        return str(self.geometry.anchor.output.dtype)

    def statement(self, parallel_: bool) -> Stmt:
        """All tasks."""
        geometry, step = self.geometry, self.point["vectors"]
        tiles = simplify(tirx.floordiv(geometry.columns + step - 1, index(step)))
        parts = index(self.point["parts"])
        each = simplify(tirx.floordiv(tiles + parts - 1, parts))
        count = len(geometry.lead)

        def task(*at: Expr) -> Stmt:
            lead, first = at[:count], at[-1] * each
            here = simplify(tirx.max(index(0), tirx.min(each, tiles - first)))
            return loop("tile", here, lambda t: self.columns(lead, (first + t) * step))

        names = [f"b{i}" for i in range(count)] + ["part"]
        return parallel(names, [*geometry.lead, parts], task, parallel_)

    def columns(self, lead: Sequence[Expr], column: Expr) -> Stmt:
        """All rows of a few columns from ``column``."""
        rows, step = constant_of(self.geometry.rows) or 1, self.point["rows"]
        tiles = -(-rows // step)

        def at(t: Expr) -> Stmt:
            return self.tile(lead, simplify(tirx.min(t * step, index(rows - step))), column)

        return loop("mt", tiles, at)

    def tile(self, lead: Sequence[Expr], row: Expr, column: Expr) -> Stmt:
        """A few rows of a few columns."""
        rows, columns = self.point["rows"], self.point["vectors"]
        pairs = [(r, c) for r in range(rows) for c in range(columns)]
        acc = {p: scratch(f"acc{p[0]}_{p[1]}", [self.lanes], self.dtype) for p in pairs}
        rest = {p: scratch(f"rest{p[0]}_{p[1]}", [1], self.dtype) for p in pairs}
        zero = tirx.const(0, self.dtype)
        lefts = [self.geometry.operand(0, lead, row + r) for r in range(rows)]
        right = self.geometry.operand(1, lead, row)
        # Columns beyond the last are computed again as the last, and stored as it.
        places = [simplify(tirx.min(column + c, self.geometry.columns - 1)) for c in range(columns)]

        def term(r: int, c: int, k: Expr) -> Expr:
            a = load(self.left, *lefts[r], k).astype(self.dtype)
            return a * self.right.at([*right, k, places[c]]).astype(self.dtype)

        def lane_loop(p: tuple[int, int], base: Expr) -> Stmt:
            def lane(v: Expr) -> Stmt:
                return store(acc[p], load(acc[p], v) + term(*p, base + v), v)

            return loop("lane", self.lanes, lane, VECTORIZED)

        def single(p: tuple[int, int], k: Expr) -> Stmt:
            return store(rest[p], load(rest[p], 0) + term(*p, k), 0)

        depth = self.geometry.depth
        whole = simplify(tirx.floordiv(depth, index(self.lanes)))
        left_over = simplify(depth - whole * self.lanes)
        return seq(
            *[allocate(b) for b in (*acc.values(), *rest.values())],
            *[_fill(acc[p], zero, self.lanes) for p in pairs],
            *[store(rest[p], zero, 0) for p in pairs],
            loop("k", whole, lambda k: seq(*[lane_loop(p, k * self.lanes) for p in pairs])),
            loop("kt", left_over, lambda k: seq(*[single(p, whole * self.lanes + k)
                                                  for p in pairs])),
            *[self.finish(p, acc[p], rest[p], lead, row, places) for p in pairs],
        )  # fmt: skip

    def finish(
        self, pair: tuple[int, int], acc: Buffer, rest: Buffer, lead: Sequence[Expr], row: Expr,
        places: Sequence[Expr],
    ) -> Stmt:  # fmt: skip
        """The sum of one element's lanes, stored through the epilogue."""
        folds = []
        width = self.lanes // 2
        while width:
            folds.append(_fold(acc, width))
            width //= 2
        r, c = pair
        place = [*self.geometry.place(lead, row + r), places[c]]
        return seq(*folds, self.epilogue.write(load(acc, 0) + load(rest, 0), place))


def _fill(buffer: Buffer, value: Expr, lanes: int) -> Stmt:
    return loop("lane", lanes, lambda v: store(buffer, value, v), VECTORIZED)


def _fold(buffer: Buffer, width: int) -> Stmt:
    """Adds the second ``width`` lanes to the first."""

    def lane(v: Expr) -> Stmt:
        return store(buffer, load(buffer, v) + load(buffer, v + width), v)

    return loop("lane", width, lane, VECTORIZED)
