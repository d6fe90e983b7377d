"""The nest of a matrix product with long sums: these are cut into blocks of ``depth`` steps.

    for batch, block of rows, part of the panels: parallel
        c[block][part] = 0
        for block of k:
            for panel in the part:
                for m in the block, ``rows`` at a time:
                    acc = c[m, panel];  acc += a[m, k] * b'[panel, k, columns]  for k in the block
                    c[m, panel] = acc
        y[block, part] = epilogue(c)

So a block's rows of ``a`` fit the second-level cache although they are long, and a panel of
the right operand is read once for many rows. Rows that a tile has beyond the last repeat it
and are left in ``c``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

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
    nest,
    parallel,
    ramp,
    scratch,
    seq,
    simplify,
    store,
)  # fmt: skip
from motet.targets.host.space import Point


@dataclass(frozen=True, eq=False)
class DeepProduct:
    """A product to write: ``right`` is [..][panels][k][columns]; columns and sums are of
    known length.
    """

    geometry: Geometry
    point: Point
    tile: Tile
    left: Buffer
    right: Buffer
    depth: int
    epilogue: Epilogue

    @property
    def panels(self) -> int:
        """Panels of the right operand."""
        return -(-(constant_of(self.geometry.columns) or 0) // self.tile.columns)

    def statement(self, parallel_: bool) -> Stmt:
        """All tasks."""
        geometry, block, tile = self.geometry, self.point["block"], self.tile
        blocks = simplify(tirx.floordiv(geometry.rows + block - 1, index(block)))
        each = -(-self.panels // self.point["parts"])
        sums = scratch("sums", [block, each * tile.columns], tile.dtype)
        count = len(geometry.lead)

        def task(*at: Expr) -> Stmt:
            lead, start, first = at[:count], at[-2] * block, at[-1] * each
            rows = simplify(tirx.min(index(block), geometry.rows - start))
            here = simplify(tirx.min(index(each), self.panels - first))
            tiles = simplify(tirx.floordiv(rows + tile.rows - 1, index(tile.rows)))

            def step(k: Expr) -> Stmt:
                return loop("panel", here, lambda p: loop("mt", tiles, lambda t: self.tile_at(
                    sums, lead, start, t, first, p, k)))  # fmt: skip

            blocks_of_k = -(-self.depth // self.point["depth"])
            return seq(
                allocate(sums),
                self.cleared(sums),
                loop("kb", blocks_of_k, step),
                loop("r", rows, lambda r: self.written(sums, lead, start, r, first, here)),
            )

        names = [f"b{i}" for i in range(count)] + ["rows", "part"]
        parts = index(-(-self.panels // each))
        return parallel(names, [*geometry.lead, blocks, parts], task, parallel_)

    def cleared(self, sums: Buffer) -> Stmt:
        """All sums 0."""
        zero = tirx.const(0, self.tile.dtype)
        rows, columns = (constant_of(d) or 0 for d in sums.shape)

        lanes = self.tile.lanes

        def vector(r: Expr, i: Expr) -> Stmt:
            return loop("lane", lanes, lambda v: store(sums, zero, r, i * lanes + v), VECTORIZED)

        return nest(["r", "i"], [rows, columns // lanes], vector)

    def row(self, start: Expr, t: Expr, r: int) -> Expr:
        """The row of the left operand that row ``r`` of tile ``t`` of a block stands for."""
        row = start + t * self.tile.rows + r
        size = constant_of(self.geometry.rows)
        whole = size is not None and size % self.tile.rows == 0
        return row if whole else simplify(tirx.min(row, self.geometry.rows - 1))

    def tile_at(
        self, sums: Buffer, lead: Sequence[Expr], start: Expr, t: Expr, first: Expr, panel: Expr,
        block: Expr,
    ) -> Stmt:  # fmt: skip
        """One block of k of one tile, added to what the sums hold."""
        tile, depth = self.tile, self.point["depth"]
        lefts = [self.geometry.operand(0, lead, self.row(start, t, r)) for r in range(tile.rows)]
        right = self.geometry.operand(1, lead, start)
        begin = block * depth
        whole = self.depth % depth == 0
        length = index(depth) if whole else tirx.min(index(depth), self.depth - begin)
        vector = f"{tile.dtype}x{tile.lanes}"

        def reduction(step: Any) -> Stmt:
            def at(k: Expr) -> Stmt:
                return step(
                    lambda r: multiplicand(load(self.left, *lefts[r], begin + k), tile.dtype),
                    lambda v: multiplicand(load(
                        self.right, *right, first + panel, begin + k,
                        ramp(index(v * tile.lanes), tile.lanes),
                    ), vector),
                )  # fmt: skip

            return loop("k", length, at)

        def place(r: int, v: int) -> tuple[Expr, Expr]:
            column = panel * tile.columns + v * tile.lanes
            return t * tile.rows + r, ramp(column, tile.lanes)

        return emit_tile(
            tile,
            reduction,
            lambda r, v, value: store(sums, value, *place(r, v)),
            lambda r, v: load(sums, *place(r, v)),
        )

    def written(
        self, sums: Buffer, lead: Sequence[Expr], start: Expr, r: Expr, first: Expr, here: Expr
    ) -> Stmt:
        """Row ``r`` of the block, through the epilogue."""
        place = self.geometry.place(lead, start + r)
        column = first * self.tile.columns
        columns = simplify(tirx.min(here * self.tile.columns, self.geometry.columns - column))

        def element(i: Expr) -> Stmt:
            return self.epilogue.write(load(sums, r, i), [*place, column + i])

        return vector_loop("n", columns, self.tile.lanes, element)
