"""The nest of a matrix product over panels of the right operand.

    for batch, block of rows, part of the panels: parallel
        for panel:                                  (made here where every task packs its own)
            for m in the block, ``rows`` at a time:
                acc[rows][columns] += a[m, k] * b'[panel, k, columns]     for all k
                y[m, panel] = epilogue(acc)

A block's rows of ``a`` stay in the second-level cache, a panel in the first. Where the
number of rows is not a multiple of the tile, the last tile starts early and computes a few
rows twice; fewer rows than a tile, where their number is open, are computed one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx

from motet.targets.host.exprs import walk
from motet.targets.host.kernels.bfloat import multiplicand
from motet.targets.host.kernels.epilogue import Epilogue
from motet.targets.host.kernels.matmul.geometry import Geometry
from motet.targets.host.kernels.tile import Tile, emit_tile
from motet.targets.host.kernels.vectors import vector_loop
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
    ramp,
    scratch,
    seq,
    simplify,
    store,
)  # fmt: skip
from motet.targets.host.space import Point

_MOST_UNROLLED_NODES = 24

PackPanel = Callable[[Buffer, Sequence[Expr], Expr], Stmt]
"""(panel to fill [k][columns], indices of the right operand's product, panel number)."""


@dataclass(frozen=True, eq=False)
class Product:
    """A product to write.

    left: [.., m, k], in pairs where integers are; right: [..][panels][k][columns], or the
    operand itself where ``in_place``, or one panel [k][columns] where ``pack`` fills it.
    depth: steps of the sums.
    """

    geometry: Geometry
    point: Point
    tile: Tile
    left: Buffer
    right: Buffer
    depth: Expr
    epilogue: Epilogue
    in_place: bool
    pack: PackPanel | None

    def statement(self, parallel_: bool) -> Stmt:
        """All tasks."""
        tile, geometry = self.tile, self.geometry
        block = index(self.point["block"])
        blocks = simplify(tirx.floordiv(geometry.rows + block - 1, block))
        panels = simplify(tirx.floordiv(geometry.columns + tile.columns - 1, index(tile.columns)))
        parts = index(self.point["parts"])
        each = simplify(tirx.floordiv(panels + parts - 1, parts))
        count = len(geometry.lead)

        def task(*at: Expr) -> Stmt:
            lead, start, first = at[:count], at[-2] * block, at[-1] * each
            rows = simplify(tirx.min(block, geometry.rows - start))
            here = simplify(tirx.min(each, panels - first))
            body = loop("panel", here, lambda p: self.panel(lead, start, rows, first + p))
            return body if self.pack is None else seq(allocate(self.right), body)

        parts = simplify(tirx.floordiv(panels + each - 1, each)) if _static(panels) else parts
        names = [f"b{i}" for i in range(count)] + ["rows", "part"]
        return parallel(names, [*geometry.lead, blocks, parts], task, parallel_)

    def panel(self, lead: Sequence[Expr], start: Expr, rows: Expr, panel: Expr) -> Stmt:
        """``rows`` rows from ``start`` of one panel."""
        packed = None
        if self.pack is not None:
            packed = self.pack(self.right, self.geometry.operand(1, lead, start), panel)
        return seq(packed, self.rows(lead, start, rows, panel))

    def rows(self, lead: Sequence[Expr], start: Expr, count: Expr, panel: Expr) -> Stmt:
        """``count`` rows from ``start``, tile by tile."""
        size, step = self.geometry.rows, self.tile.rows
        tiles = simplify(tirx.floordiv(count + step - 1, index(step)))

        def whole(t: Expr) -> Stmt:
            first = start + t * step
            known = constant_of(size)
            if known is None or known % step:
                first = simplify(tirx.min(first, size - step))
            return self.tile_at(self.tile, lead, first, panel)

        many = loop("mt", tiles, whole)
        if constant_of(size) is not None:
            return many
        single = replace(self.tile, rows=1)
        one = loop("mr", count, lambda t: self.tile_at(single, lead, start + t, panel))
        return many if step == 1 else tirx.IfThenElse(size >= step, many, one)

    def tile_at(self, tile: Tile, lead: Sequence[Expr], row: Expr, panel: Expr) -> Stmt:
        """Rows ``row`` to ``row + tile.rows`` of one panel."""
        column = panel * tile.columns
        if self.in_place:
            column = tirx.min(column, self.geometry.columns - tile.columns)
        lefts = [self.geometry.operand(0, lead, row + r) for r in range(tile.rows)]
        right = self.geometry.operand(1, lead, row)
        vector = f"{tile.dtype}x{tile.lanes}"

        def reduction(step: Any) -> Stmt:
            def at(k: Expr) -> Stmt:
                return step(
                    lambda r: multiplicand(load(self.left, *lefts[r], k), tile.dtype),
                    lambda v: multiplicand(self.right_at(right, panel, column, k, v), vector),
                )

            return loop("k", self.depth, at)

        finish = _Finish(self, tile, lead, row, column)
        return finish.around(lambda keep: emit_tile(tile, reduction, keep))

    def right_at(self, lead: Sequence[Expr], panel: Expr, column: Expr, k: Expr, v: int) -> Expr:
        """Vector ``v`` of row ``k`` of a panel, which begins at ``column``."""
        lanes = self.tile.lanes
        if self.in_place:
            return load(self.right, *lead, k, ramp(column + v * lanes, lanes))
        where = [] if self.pack is not None else [*lead, panel]
        return load(self.right, *where, k, ramp(index(v * lanes), lanes))


def _static(extent: Expr) -> bool:
    return constant_of(extent) is not None


class _Finish:
    """What becomes of a tile's accumulators.

    A short epilogue is applied to each vector as it leaves its register; a long one, and
    columns that a panel has beyond the result, go through a copy of the tile in memory.
    """

    def __init__(
        self, work: Product, tile: Tile, lead: Sequence[Expr], row: Expr, column: Expr
    ) -> None:
        self.work, self.tile, self.lead, self.row, self.column = work, tile, lead, row, column
        self.sums = scratch("sums", [tile.rows, tile.columns], tile.dtype)
        stage = work.epilogue.stage
        nodes = 1 if stage is None else len(walk(stage.value))
        self.short = nodes <= _MOST_UNROLLED_NODES
        size = constant_of(work.geometry.columns)
        self.full = work.in_place or (size is not None and size % tile.columns == 0)

    def around(self, emit: Callable[[Callable[[int, int, Expr], Stmt | None]], Stmt]) -> Stmt:
        """The tile that ``emit`` writes, its accumulators taken care of."""
        if self.full and self.short:
            return emit(self.direct)
        copied = loop("r", self.tile.rows, self.from_memory)
        if not self.short:
            return seq(allocate(self.sums), emit(self.to_memory), copied)
        return seq(allocate(self.sums), emit(self.branch(copied)))

    def branch(self, copied: Stmt) -> Callable[[int, int, Expr], Stmt | None]:
        """Directly in all panels but one that is cut off."""
        values: list[tuple[int, int, Expr]] = []

        def keep(r: int, v: int, value: Expr) -> Stmt | None:
            values.append((r, v, value))
            if len(values) < self.tile.rows * self.tile.vectors:
                return None
            directly = seq(*[self.direct(*x) for x in values])
            in_memory = seq(*[self.to_memory(*x) for x in values], copied)
            whole = self.column + self.tile.columns <= self.work.geometry.columns
            return tirx.IfThenElse(whole, directly, in_memory)

        return keep

    def direct(self, r: int, v: int, value: Expr) -> Stmt:
        place = self.work.geometry.place(self.lead, self.row + r)
        lanes = self.tile.lanes

        def lane(i: Expr) -> Stmt:
            element = load(value.source, v * lanes + i)
            return self.work.epilogue.write(element, [*place, self.column + v * lanes + i])

        return loop("lane", lanes, lane, VECTORIZED)

    def to_memory(self, r: int, v: int, value: Expr) -> Stmt:
        return store(self.sums, value, r, ramp(index(v * self.tile.lanes), self.tile.lanes))

    def from_memory(self, r: Expr) -> Stmt:
        place = self.work.geometry.place(self.lead, self.row + r)

        def element(i: Expr) -> Stmt:
            at = [*place, self.column + i]
            return self.work.epilogue.write(load(self.sums, r, i), at)

        columns = index(self.tile.columns)
        here = columns if self.full else tirx.min(columns, self.work.geometry.columns - self.column)
        return vector_loop("n", simplify(here), self.tile.lanes, element)
