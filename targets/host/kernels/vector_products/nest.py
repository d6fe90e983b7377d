"""The nest of a product of vectors.

::

    for batch, group, block of positions, part of the panels: parallel
        for panel:
            sums = 0
            for run of vectors whose weights fit the first-level cache:
                for tile of the block:  sums[tile] += products of the run
            y = epilogue(float(sums) factor)

A panel with one run that needs no sums in 64 bits is converted tile by tile. Results of a
convolution are stored with positions side by side, of a matrix product with output channels side
by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from motet.targets.host.kernels.vector_products.form import Sums
from motet.targets.host.kernels.vector_products.geometry import Geometry
from motet.targets.host.kernels.vector_products.results import Panel, Results
from motet.targets.host.kernels.vector_products.tasks import tasks
from motet.targets.host.kernels.vector_products.tile import TileNest
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    constant_of,
    index,
    load,
    loop,
    scratch,
    seq,
    simplify,
    store,
)

_PANEL_BYTES = 16 * 1024


@dataclass(frozen=True, eq=False)
class ProductNest:
    """parts: tasks that share the panels of a block.

    packed: [*lead or none, groups, panels, rows, width], with ``lead`` where ``batched_weights``.
    """

    geometry: Geometry
    tile: TileNest
    packed: Buffer
    batched_weights: bool
    results: Results
    parts: int

    def statement(self, several: bool) -> Stmt:
        """All tasks."""
        geometry, block = self.geometry, self.results.block
        blocks = simplify(tirx.floordiv(geometry.positions + block - 1, index(block)))
        panels, each, binds = self._shares()
        known = constant_of(panels), constant_of(each)
        parts = index(self.parts)
        if known[0] is not None and known[1]:
            parts = index(-(-known[0] // known[1]))
        count = len(geometry.lead)

        def task(*at: Expr) -> Stmt:
            lead, group, number, part = list(at[:count]), at[-3], at[-2], at[-1]
            first = part * each
            here = simplify(tirx.min(each, panels - first))
            return self._task(lead, group, number, first, here)

        names = [f"n{i}" for i in range(count)] + ["group", "block", "part"]
        extents = [*geometry.lead, index(geometry.groups), blocks, parts]
        return seq(*binds, tasks(names, extents, task, several))

    def _shares(self) -> tuple[Expr, Expr, list[Stmt]]:
        """Panels, and those of a task; open numbers are variables, which statements define."""
        panels = self.packed.shape[-3]
        known = constant_of(panels)
        if known is not None:
            return panels, index(-(-known // self.parts)), []
        all_panels, each = tirx.Var("panels", "int64"), tirx.Var("each", "int64")
        share = tirx.floordiv(all_panels + (self.parts - 1), index(self.parts))
        return all_panels, each, [tirx.Bind(all_panels, panels), tirx.Bind(each, share)]

    def _task(
        self, lead: list[Expr], group: Expr, number: Expr, first_panel: Expr, here: Expr
    ) -> Stmt:
        geometry, block = self.geometry, self.results.block
        first, count = tirx.Var("first", "int64"), tirx.Var("count", "int64")
        bases, acc = scratch("bases", [block], "int64"), self.tile.accumulators()

        def base(i: Expr) -> Stmt:
            at = tirx.min(first + i, geometry.positions - 1)
            return store(bases, geometry.base(lead, group, at), i)

        def panel(p: Expr) -> Stmt:
            column = (first_panel + p) * self.tile.width
            place = Panel(lead, group, first, count, column)
            return self._panel(place, first_panel + p, bases, acc)

        return seq(
            tirx.Bind(first, simplify(number * block)),
            tirx.Bind(count, tirx.min(index(block), geometry.positions - first)),
            allocate(bases),
            loop("i", block, base),
            allocate(acc),
            *self.results.memory(),
            loop("panel", here, panel),
        )

    def _panel(self, place: Panel, panel: Expr, bases: Buffer, acc: Buffer) -> Stmt:
        tile, results = self.tile, self.results
        tiles = tirx.floordiv(place.count + (tile.rows - 1), index(tile.rows))
        positions = tiles * tile.rows
        start, period = tirx.Var("panel_at", "int64"), tirx.Var("period", "int64")
        run = self._run()
        runs = simplify(tirx.floordiv(self.geometry.vectors + run - 1, index(run)))
        at_once = self._at_once(runs, period)

        def one(r: Expr, t: Expr) -> Stmt:
            from_vector = simplify(r * run)
            length = simplify(tirx.min(index(run), self.geometry.vectors - from_vector))
            slots = [t * tile.rows + p for p in range(tile.rows)]
            at = [tirx.Var(f"base{p}", "int64") for p in range(tile.rows)]
            binds = [tirx.Bind(var, load(bases, slot)) for var, slot in zip(at, slots, strict=True)]

            def finish(acc: Buffer) -> Stmt:
                sums = [(slots[p], b, load(acc, tile.lane(p, b))) for p, b in tile.each()]
                added = seq(*[results.add(*vector) for vector in sums])
                if at_once is None:
                    return added
                return _either(at_once, seq(*[results.put(*v) for v in sums]), added)

            return seq(*binds, tile.write(acc, at, start, period, from_vector, length, finish))

        weights = self.tile.reading.weights
        return seq(
            tirx.Bind(start, simplify(self._panel_at(place, panel))),
            tirx.Bind(period, load(weights, start).astype("int64")),
            results.take_factors(place),
            _unless(at_once, results.clear(positions)),
            loop("run", runs, lambda r: loop("tile", tiles, lambda t: one(r, t))),
            _unless(at_once, results.convert(place.count)),
            results.write(place),
        )

    def _at_once(self, runs: Expr, period: Expr) -> Expr | None:
        """Whether the first sums of a tile are all; None: never."""
        if constant_of(runs) != 1 or self.results.factor is None:
            return None
        if self.tile.form.sums is Sums.NARROW:
            return period >= self.geometry.vectors
        return tirx.const(1, "bool")

    def _panel_at(self, place: Panel, panel: Expr) -> Expr:
        """The first element of a panel."""
        at: Sequence[Expr] = [*(place.lead if self.batched_weights else []), place.group, panel]
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


def _either(condition: Expr, yes: Stmt, no: Stmt) -> Stmt:
    if isinstance(condition, tirx.IntImm):
        return yes
    return tirx.IfThenElse(condition, yes, no)


def _unless(condition: Expr | None, statement: Stmt | None) -> Stmt | None:
    if condition is None or statement is None:
        return statement
    if isinstance(condition, tirx.IntImm):
        return None
    return tirx.IfThenElse(tirx.Not(condition), statement, None)
