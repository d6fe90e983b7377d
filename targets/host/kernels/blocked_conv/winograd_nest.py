"""The loop nests of Winograd's convolution.

With ``V`` the transformed input of a group of tiles and ``M`` the products of one sweep of
output channels, ``order = LOCAL`` is::

    for n, group of tiles:                                          parallel
        for tile, ic block: V[point, ic block, tile] = B^T x B
        for sweep:
            for point, panel, rows of tiles: M[tile, point, panel] = V[point] U[sweep, point]
            for tile, oc block of the sweep: y = epilogue(A^T M[tile] A)

so that V and M stay in the second-level cache and the weights U are read once per group.
``order = SHARED`` transforms all tiles first (parallel over n, group, ic block); its second
loop is parallel over sweep, n and group, so that every weight is read once or stays in cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from motet.targets.host.kernels.blocked_conv.request import Request
from motet.targets.host.kernels.blocked_conv.winograd_matrices import Matrices
from motet.targets.host.kernels.blocked_conv.winograd_plan import SHARED, Plan
from motet.targets.host.kernels.blocked_conv.winograd_transforms import (
    Lines,
    transform_inputs,
    transform_outputs,
    transform_tile,
)  # fmt: skip
from motet.targets.host.kernels.tile import Tile, emit_tile
from motet.targets.host.loops import (
    VECTORIZED,
    Buffer,
    Expr,
    Stmt,
    allocate,
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


@dataclass(frozen=True, eq=False)
class Nest:
    """Writes the parts of the nest; ``weights`` is packed as ``pack_weights`` does."""

    request: Request
    plan: Plan
    matrices: Matrices
    weights: Buffer
    dtype: str
    parallel: bool

    def statement(self) -> Stmt:
        """The whole nest."""
        return self._shared() if self.plan.order == SHARED else self._local()

    def _local(self) -> Stmt:
        plan = self.plan
        values = scratch("inputs", [plan.points * plan.plane], self.dtype)

        def task(n: Expr, group: Expr) -> Stmt:
            first, skipped = self._group(group)

            def transform(i: Expr) -> Stmt:
                return self._input_tile(values, index(0), n, first, i, None)

            return seq(
                allocate(values),
                loop("tile", plan.group, transform),
                loop("sweep", plan.sweeps,
                     lambda s: self._sweep(values, index(0), n, first, skipped, s)),
            )  # fmt: skip

        return parallel(["n", "group"], [self.request.conv.batch, plan.groups], task, self.parallel)

    def _shared(self) -> Stmt:
        plan, batch = self.plan, self.request.conv.batch
        size = simplify(batch * (plan.groups * plan.points * plan.plane))
        values = scratch("inputs", [size], self.dtype)

        def base(n: Expr, group: Expr) -> Expr:
            return (n * plan.groups + group) * (plan.points * plan.plane)

        def transform(n: Expr, group: Expr, block: Expr) -> Stmt:
            first, _ = self._group(group)
            at = base(n, group)
            return loop(
                "tile", plan.group, lambda i: self._input_tile(values, at, n, first, i, block)
            )

        def products(sweep: Expr, n: Expr, group: Expr) -> Stmt:
            first, skipped = self._group(group)
            return self._sweep(values, base(n, group), n, first, skipped, sweep)

        inputs, outputs = [batch, plan.groups, plan.ic_blocks], [plan.sweeps, batch, plan.groups]
        return seq(
            allocate(values),
            parallel(["n", "group", "icb"], inputs, transform, self.parallel),
            parallel(["sweep", "n", "group"], outputs, products, self.parallel),
        )

    def _group(self, group: Expr) -> tuple[Expr, Expr]:
        """The group's first tile, and how many of its tiles the group before has done."""
        plan = self.plan
        last = plan.tiles - plan.group
        first = tirx.min(group * plan.group, index(last))
        return first, group * plan.group - first

    def _input_tile(
        self, values: Buffer, base: Expr, n: Expr, first: Expr, i: Expr, block: Expr | None
    ) -> Stmt:
        """Tile ``i`` of the group from ``first``: of one channel block, or of all."""
        plan, conv = self.plan, self.request.conv
        tile = tirx.Var("tile", "int64")
        h = tirx.Var("h", "int64")
        w = tirx.Var("w", "int64")
        across = index(plan.across)
        inside = tirx.all(h >= 0, h <= conv.height - plan.edge, w >= 0, w <= conv.width - plan.edge)

        def at(icb: Expr, guarded: bool) -> Stmt:
            start = base + (icb * plan.group + i) * plan.block
            return self._transform_input(values, start, n, icb, (h, w), guarded)

        def blocks(guarded: bool) -> Stmt:
            if block is not None:
                return at(block, guarded)
            return loop("icb", plan.ic_blocks, lambda icb: at(icb, guarded))

        return seq(
            tirx.Bind(tile, first + i),
            tirx.Bind(h, tirx.floordiv(tile, across) * plan.size - conv.top),
            tirx.Bind(w, tirx.floormod(tile, across) * plan.size - conv.left),
            tirx.IfThenElse(inside, blocks(False), blocks(True)),
        )

    def _transform_input(
        self, values: Buffer, start: Expr, n: Expr, icb: Expr, at: tuple[Expr, Expr],
        guarded: bool,
    ) -> Stmt:  # fmt: skip
        plan, conv, request = self.plan, self.request.conv, self.request
        lanes, edge = plan.block, plan.edge
        raw = [scratch(f"raw{j}", [edge * lanes], self.dtype) for j in range(edge)]

        def element(i: int, j: int, lane: Expr) -> Expr:
            h, w = at[0] + i, at[1] + j
            value = request.input_at(n, icb * lanes + lane, h, w).astype(self.dtype)
            if not guarded:
                return value
            inside = tirx.all(h >= 0, h < conv.height, w >= 0, w < conv.width)
            return tirx.if_then_else(inside, value, tirx.const(0, self.dtype))

        def column(lines: Lines, j: int) -> list[Expr]:
            for i in range(edge):
                lines.statements.append(
                    loop("lane", lanes, lambda v, i=i: store(
                        raw[j], element(i, j, v), i * lanes + v), VECTORIZED)
                )  # fmt: skip
            return [
                lines.bind(load(raw[j], ramp(index(i * lanes), lanes))) for i in range(edge)
            ]  # fmt: skip

        def finish(i: int, j: int, value: Expr) -> Stmt:
            return store(values, value, ramp(start + (i * edge + j) * plan.plane, lanes))

        whole = transform_tile(
            self.matrices.inputs, transform_inputs, lanes, self.dtype, column, finish
        )
        return seq(*[allocate(r) for r in raw], whole)

    def _sweep(
        self, values: Buffer, base: Expr, n: Expr, first: Expr, skipped: Expr, sweep: Expr
    ) -> Stmt:
        """Products of one sweep's output channels for a group, and their outputs."""
        plan = self.plan
        products = scratch(
            "products", [plan.group, plan.points, plan.sweep_blocks * plan.block], self.dtype
        )

        def panel(point: Expr, p: Expr) -> Stmt:
            statements, start = [], 0
            for rows, count in plan.row_parts:

                def tiles(k: Expr, rows: int = rows, start: int = start) -> Stmt:
                    return self._product(values, base, products, sweep, point, p,
                                         start + k * rows, rows)  # fmt: skip

                statements.append(loop("rows", count, tiles))
                start += rows * count
            return seq(*statements)

        blocks = tirx.min(
            index(plan.sweep_blocks), plan.oc_blocks - sweep * plan.sweep_blocks
        )  # fmt: skip
        return seq(
            allocate(products),
            nest(["point", "panel"], [plan.points, plan.panels], panel),
            nest(
                ["tile", "ocb"], [plan.group - skipped, simplify(blocks)],
                lambda i, b: self._output_tile(products, n, first, i + skipped, sweep, b),
            ),
        )  # fmt: skip

    def _product(
        self, values: Buffer, base: Expr, products: Buffer, sweep: Expr, point: Expr,
        panel: Expr, start: Expr, rows: int,
    ) -> Stmt:  # fmt: skip
        """A register tile: ``rows`` tiles from ``start``, one panel, one point."""
        plan = self.plan
        tile = Tile(rows, plan.vectors, plan.block, self.dtype)

        def reduction(step: Any) -> Stmt:
            def block(icb: Expr) -> Stmt:
                at = base + point * plan.plane + (icb * plan.group + start) * plan.block
                return seq(*[self._step(values, at, sweep, point, panel, icb, lane, step)
                             for lane in range(plan.block)])  # fmt: skip

            return loop("icb", plan.ic_blocks, block)

        def finish(r: int, v: int, value: Expr) -> Stmt:
            lane = panel * plan.columns + v * plan.block
            return store(products, value, start + r, point, ramp(lane, plan.block))

        return emit_tile(tile, reduction, finish)

    def _step(
        self, values: Buffer, at: Expr, sweep: Expr, point: Expr, panel: Expr, icb: Expr,
        lane: int, step: Any,
    ) -> Stmt:  # fmt: skip
        plan = self.plan
        where = sweep, point, panel, icb * plan.block + lane
        return step(
            lambda r: load(values, at + (r * plan.block + lane)),
            lambda v: load(self.weights, *where, ramp(index(v * plan.block), plan.block)),
        )

    def _output_tile(
        self, products: Buffer, n: Expr, first: Expr, i: Expr, sweep: Expr, b: Expr
    ) -> Stmt:
        """The outputs of tile ``i`` of a group, of block ``b`` of a sweep."""
        plan, lanes = self.plan, self.plan.block
        results = [scratch(f"out{k}", [plan.size * lanes], self.dtype) for k in range(plan.size)]

        def column(lines: Lines, j: int) -> list[Expr]:
            at = ramp(b * lanes, lanes)
            points = [k * plan.edge + j for k in range(plan.edge)]
            return [lines.bind(load(products, i, p, at)) for p in points]

        def finish(k: int, j: int, value: Expr) -> Stmt:
            return store(results[k], value, ramp(index(j * lanes), lanes))

        whole = transform_tile(
            self.matrices.outputs, transform_outputs, lanes, self.dtype, column, finish
        )
        at = first + i, sweep * plan.sweep_blocks + b
        return seq(*[allocate(r) for r in results], whole, self._write(results, n, *at))

    def _write(self, results: Sequence[Buffer], n: Expr, tile: Expr, block: Expr) -> Stmt:
        plan, conv = self.plan, self.request.conv
        h = tirx.Var("h", "int64")
        w = tirx.Var("w", "int64")
        whole = tirx.all(h <= conv.out_height - plan.size, w <= conv.out_width - plan.size)
        partial = conv.out_height % plan.size or conv.out_width % plan.size
        body = self._write_part(results, n, block, h, w)
        if conv.block_out:
            full = self._write_whole(results, n, block, h, w)
            body = tirx.IfThenElse(whole, full, body) if partial else full
        return seq(
            tirx.Bind(h, tirx.floordiv(tile, index(plan.across)) * plan.size),
            tirx.Bind(w, tirx.floormod(tile, index(plan.across)) * plan.size),
            body,
        )

    def _write_whole(
        self, results: Sequence[Buffer], n: Expr, block: Expr, h: Expr, w: Expr
    ) -> Stmt:
        """All vectors of a tile, from registers."""
        plan, request = self.plan, self.request
        lanes = plan.block

        def write(i: int, j: int) -> Stmt:
            def lane(v: Expr) -> Stmt:
                value = load(results[i], j * lanes + v)
                return request.epilogue.write(value, request.position(n, block, h + i, w + j, v))

            return loop("lane", lanes, lane, VECTORIZED)

        return seq(*[write(i, j) for i in range(plan.size) for j in range(plan.size)])

    def _write_part(
        self, results: Sequence[Buffer], n: Expr, block: Expr, h: Expr, w: Expr
    ) -> Stmt:
        """The elements of a tile that the output has, from memory."""
        plan, request, conv = self.plan, self.request, self.request.conv
        lanes, size = plan.block, plan.size
        spilled = scratch("spilled", [size, size, lanes], self.dtype)
        copies = [
            store(spilled, load(results[i], ramp(index(j * lanes), lanes)), i, j,
                  ramp(index(0), lanes))
            for i in range(size) for j in range(size)
        ]  # fmt: skip
        rows = tirx.min(index(size), conv.out_height - h)
        columns = tirx.min(index(size), conv.out_width - w)

        def write(i: Expr, j: Expr, v: Expr) -> Stmt:
            at = request.position(n, block, h + i, w + j, v)
            return request.epilogue.write(load(spilled, i, j, v), at)

        if conv.block_out:
            loops = nest(["i", "j"], [rows, columns], lambda i, j: loop(
                "lane", lanes, lambda v: write(i, j, v), VECTORIZED))  # fmt: skip
        else:
            kept = tirx.min(index(lanes), conv.outs - block * lanes)
            loops = nest(["lane", "i", "j"], [kept, rows, columns], lambda v, i, j: write(i, j, v))
        return seq(allocate(spilled), *copies, loops)
