"""The nest of a product of vectors.

::

    for batch, group, block of positions, part of the panels: parallel
        for panel:
            sums = 0
            for run of vectors whose weights fit the first-level cache:
                for tile of the block:  sums[tile] += products of the run
            y = epilogue(float(sums) factor)

Results of a convolution are stored with positions side by side, of a matrix product with
output channels side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from motet.targets.host.kernels.epilogue import Epilogue
from motet.targets.host.kernels.vector_products.form import Sums
from motet.targets.host.kernels.vector_products.tile import TileNest
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    broadcast,
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
)

_MAGIC = 2.0**52 + 2.0**51
"""Added to a float64, it leaves a smaller integer in the low bits (and back)."""
_MAGIC_BITS = 0x4338000000000000
_EXACT = 2**51
_PANEL_BYTES = 16 * 1024


@dataclass(frozen=True, eq=False)
class Geometry:
    """What a product of vectors runs over.

    lead: batch axes; groups; positions: of one batch; columns: output channels of a group;
    vectors: K of an output. base: (batch, group, position) to the number of the position's
    first vector in the data. place: (batch, group, position, channel, flat) to the
    result's indices; flat: all positions counted along the last axis.
    positions_last: whether neighbouring positions are neighbours in the result.
    """

    lead: Sequence[Expr]
    groups: int
    positions: Expr
    columns: Expr
    vectors: Expr
    base: Callable[[Sequence[Expr], Expr, Expr], Expr]
    place: Callable[[Sequence[Expr], Expr, Expr, Expr, bool], list[Expr]]
    positions_last: bool


@dataclass(frozen=True, eq=False)
class ProductNest:
    """block: positions of a task, a multiple of a tile's; parts: of the panels.

    packed: [*lead or none, groups, panels, rows, width]; factor: of a channel. raw: whether sums
    themselves are the result.
    """

    geometry: Geometry
    tile: TileNest
    packed: Buffer
    batched_weights: bool
    factor: Callable[[Expr], Expr] | None
    epilogue: Epilogue
    block: int
    parts: int
    vectorised: bool

    def statement(self, several: bool) -> Stmt:
        """All tasks."""
        geometry = self.geometry
        panels = self.packed.shape[-3]
        blocks = simplify(tirx.floordiv(geometry.positions + self.block - 1, index(self.block)))
        each = simplify(tirx.floordiv(panels + self.parts - 1, index(self.parts)))
        parts = simplify(tirx.floordiv(panels + each - 1, each))
        count = len(geometry.lead)

        def task(*at: Expr) -> Stmt:
            lead, group, number, part = list(at[:count]), at[-3], at[-2], at[-1]
            return self._task(lead, group, number, part * each, each)

        names = [f"n{i}" for i in range(count)] + ["group", "block", "part"]
        return parallel(
            names, [*geometry.lead, index(geometry.groups), blocks, parts], task, several
        )

    def _task(
        self, lead: list[Expr], group: Expr, number: Expr, first_panel: Expr, each: Expr
    ) -> Stmt:
        geometry, tile, block = self.geometry, self.tile, self.block
        first, count = tirx.Var("first", "int64"), tirx.Var("count", "int64")
        binds = [
            tirx.Bind(first, simplify(number * block)),
            tirx.Bind(count, tirx.min(index(block), geometry.positions - first)),
        ]
        bases = scratch("bases", [block], "int64")

        def base(i: Expr) -> Stmt:
            at = tirx.min(first + i, geometry.positions - 1)
            return store(bases, geometry.base(lead, group, at), i)

        sums = scratch("sums", [block, tile.width], tile.sums_dtype)
        panels = self.packed.shape[-3]
        here = simplify(tirx.min(each, panels - first_panel))

        def panel(p: Expr) -> Stmt:
            return self._panel(lead, group, first, count, first_panel + p, bases, sums)

        return seq(
            *binds, allocate(bases), loop("i", block, base), allocate(sums),
            loop("panel", here, panel),
        )  # fmt: skip

    def _panel(
        self, lead: list[Expr], group: Expr, first: Expr, count: Expr, panel: Expr,
        bases: Buffer, sums: Buffer,
    ) -> Stmt:  # fmt: skip
        geometry, tile = self.geometry, self.tile
        tiles = tirx.floordiv(count + (tile.rows - 1), index(tile.rows))
        zero = broadcast(tirx.const(0, tile.sums_dtype), tile.lanes)

        def clear(i: Expr) -> Stmt:
            return seq(*[store(sums, zero, i, self._lane(b)) for b in range(tile.blocks)])

        start = tirx.Var("panel_at", "int64")
        run = self._run()
        runs = simplify(tirx.floordiv(geometry.vectors + run - 1, index(run)))

        def one(r: Expr, t: Expr) -> Stmt:
            from_vector = simplify(r * run)
            length = simplify(tirx.min(index(run), geometry.vectors - from_vector))
            slots = [t * tile.rows + p for p in range(tile.rows)]
            binds, at = [], []
            for p, slot in enumerate(slots):
                var = tirx.Var(f"base{p}", "int64")
                binds.append(tirx.Bind(var, load(bases, slot)))
                at.append(var)

            def add(p: int, b: int, value: Expr) -> Stmt:
                where = (slots[p], self._lane(b))
                return store(sums, load(sums, *where) + value, *where)

            return seq(*binds, tile.write(at, start, from_vector, length, add))

        return seq(
            tirx.Bind(start, simplify(self._panel_at(lead, group, panel))),
            loop("i", tiles * tile.rows, clear),
            loop("run", runs, lambda r: loop("tile", tiles, lambda t: one(r, t))),
            self._finish(lead, group, first, count, panel, sums),
        )

    def _lane(self, b: int) -> Expr:
        return ramp(index(b * self.tile.lanes), self.tile.lanes)

    def _panel_at(self, lead: Sequence[Expr], group: Expr, panel: Expr) -> Expr:
        """The first element of a panel."""
        at = [*(lead if self.batched_weights else []), group, panel]
        number: Expr = index(0)
        for i, extent in zip(at, self.packed.shape, strict=False):
            number = number * extent + i
        return number * self.packed.shape[-2] * self.tile.width

    def _run(self) -> int:
        """Vectors whose packed weights fit the first-level cache beside the rest."""
        fitting = max(1, _PANEL_BYTES // (4 * self.tile.width * self.tile.form.rows))
        known = constant_of(self.geometry.vectors)
        if known is None:
            return fitting
        return max(1, -(-known // max(1, -(-known // fitting))))

    def _finish(
        self, lead: Sequence[Expr], group: Expr, first: Expr, count: Expr, panel: Expr,
        sums: Buffer,
    ) -> Stmt:  # fmt: skip
        """Sums become results."""
        geometry, tile = self.geometry, self.tile
        column = panel * tile.width
        columns = simplify(tirx.min(index(tile.width), geometry.columns - column))
        results, convert = sums, None
        if self.factor is not None:
            results = scratch("results", [self.block, tile.width], "float32")
            convert = self._converted(results, sums, group, column, count)
        lanes = tile.lanes if self.vectorised else 1
        write = self.epilogue.write

        def element(i: Expr, o: Expr) -> Stmt:
            place = geometry.place(lead, group, first + i, column + o, self.vectorised)
            return write(load(results, i, o), place)

        if geometry.positions_last:
            stored = loop(
                "o", columns, lambda o: vector_loop("i", count, lanes, lambda i: element(i, o))
            )
        else:
            stored = loop(
                "i", count, lambda i: vector_loop("o", columns, lanes, lambda o: element(i, o))
            )
        allocated = [] if convert is None else [allocate(results)]
        return seq(*allocated, convert, stored)

    def _converted(
        self, results: Buffer, sums: Buffer, group: Expr, column: Expr, count: Expr
    ) -> Stmt:
        """Sums to the nearest float32, times their factor: two roundings."""
        tile, geometry, factor = self.tile, self.geometry, self.factor
        assert factor is not None
        held = scratch("factors", [tile.width], "float32")

        def take(o: Expr) -> Stmt:
            channel = group * geometry.columns + tirx.min(column + o, geometry.columns - 1)
            return store(held, factor(channel), o)

        def line(i: Expr) -> Stmt:
            return seq(*[self._vector(results, sums, held, i, b) for b in range(tile.blocks)])

        return seq(allocate(held), loop("o", tile.width, take), loop("i", count, line))

    def _vector(self, results: Buffer, sums: Buffer, held: Buffer, i: Expr, b: int) -> Stmt:
        value = self._as_float(load(sums, i, self._lane(b))) * load(held, self._lane(b))
        kind = f"float32x{self.tile.lanes}"
        kept = tirx.call_llvm_pure_intrin(kind, "llvm.arithmetic.fence", value)
        return store(results, kept, i, self._lane(b))

    def _as_float(self, value: Expr) -> Expr:
        """An int64 below 2^51 is exact in float64, and rounded once on its way to float32."""
        lanes, form = self.tile.lanes, self.tile.form
        if form.sums is Sums.FLOAT:
            return value
        known = constant_of(self.geometry.vectors)
        if known is None or known * form.vector_bound >= _EXACT:
            return value.astype(f"float32x{lanes}")
        bits = value + broadcast(tirx.const(_MAGIC_BITS, "int64"), lanes)
        magic = broadcast(tirx.const(_MAGIC, "float64"), lanes)
        exact = tirx.reinterpret(f"float64x{lanes}", bits) - magic
        return exact.astype(f"float32x{lanes}")
