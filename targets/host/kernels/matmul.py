"""Matrix product, batched, of any shape: ``y[.., m, n] = epilogue(sum_k a[.., m, k] b[.., k, n])``.

The right operand is packed into panels of ``columns`` columns, ``b'[.., n / columns][k][columns]``,
at compile time where it is constant, else by a parallel copy before the product (a transposed
right operand is transposed by that copy). Then::

    for batch, block of rows, part of the panels: parallel
        for panel:
            for m in the block, ``rows`` at a time:
                acc[rows][columns] += a[m, k] * b'[panel, k, columns]     for all k
                y[m, panel] = epilogue(acc)

A block's rows of ``a`` stay in the second-level cache, a panel in the first. Where the
number of rows is not a multiple of the tile, the last tile starts early and computes a few
rows twice; where it is symbolic, the rest is computed row by row. Up to ``_UNPACKED_ROWS``
rows do not pay for the copy of a right operand that is in row-major order: it is read where
it is, and the last panel starts early. Integers of 8 bits are multiplied in pairs along k
(``pairs``), for which the left operand is packed too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.exprs import loads, substitute
from motet.targets.host.kernels.anchor import EmittedAnchor
from motet.targets.host.kernels.epilogue import Epilogue, find_epilogue
from motet.targets.host.kernels.operand import (
    Operand,
    Packing,
    find_operand,
    operand_buffers,
    packed_dtype,
)
from motet.targets.host.kernels.pairs import pair, pair_product, pairs_along, takes_pairs
from motet.targets.host.kernels.tile import Tile, choose_tile, emit_tile
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    constant_of,
    index,
    load,
    loop,
    parallel,
    product,
    ramp,
    round_up,
    scratch,
    seq,
    simplify,
    store,
)  # fmt: skip
from motet.targets.host.machine import Machine
from motet.targets.host.options import KernelOptions
from motet.targets.host.stages import Stage, StagedFunction

PARALLEL_FLOPS = 1_000_000
_BLOCK_BYTES = 128 * 1024
_UNPACKED_ROWS = 4


def pack_panels(b: NDArray[Any], columns: int) -> NDArray[Any]:
    """``[..][panels][k][columns]`` of ``b`` (.., k, n), zero-filled."""
    n = b.shape[-1]
    padded = np.zeros((*b.shape[:-1], round_up(n, columns)), b.dtype)
    padded[..., :n] = b
    panels = padded.reshape(*b.shape[:-1], -1, columns)
    return np.ascontiguousarray(np.moveaxis(panels, -2, -3))


@dataclass(frozen=True, eq=False)
class _Product:
    """One matrix product; ``packed`` holds the panels of the right operand, or the operand
    itself where ``in_place``; ``left`` the left operand's pairs where integers are paired.
    """

    anchor: Stage
    tile: Tile
    packed: Buffer
    epilogue: Epilogue
    in_place: bool
    left: Buffer | None

    @property
    def batch(self) -> list[Expr]:
        """Extents of the batch axes."""
        return [a.extent for a in self.anchor.spatial[:-2]]

    @property
    def m(self) -> Expr:
        """Rows of the result."""
        return self.anchor.spatial[-2].extent

    @property
    def n(self) -> Expr:
        """Columns of the result."""
        return self.anchor.spatial[-1].extent

    @property
    def k(self) -> Expr:
        """Length of the sums, in pairs where there are any."""
        length = self.anchor.reduction[0].extent
        return length if self.left is None else _half(length)

    def _operand_at(self, which: int, values: Sequence[Expr], k: Expr) -> Any:
        accesses = [x for x in loads(self.anchor.value) if not x.source.same_as(self.anchor.output)]
        axes = {a.var: v for a, v in zip(self.anchor.spatial, values, strict=True)}
        axes[self.anchor.reduction[0].var] = k
        access = substitute(accesses[which], axes)
        if which == 0 and self.left is not None:
            return load(self.left, *access.indices[:-1], k)
        return access

    def _right(self, lead: Sequence[Expr], panel: Expr, column: Expr, k: Expr, v: int) -> Any:
        """Vector ``v`` of row ``k`` of a panel, which begins at ``column``."""
        lanes = self.tile.lanes
        if self.in_place:
            return load(self.packed, *lead, k, ramp(column + v * lanes, lanes))
        return load(self.packed, *lead, panel, k, ramp(index(v * lanes), lanes))

    def tile_at(self, tile: Tile, lead: Sequence[Expr], m: Expr, panel: Expr) -> Stmt:
        """Rows ``m`` to ``m + tile.rows`` of one panel."""
        dtype = tile.dtype
        column = panel * tile.columns
        if self.in_place:
            column = tirx.min(column, self.n - tile.columns)
        sums = scratch("sums", [tile.rows, tile.columns], dtype)
        right_lead = self._operand_at(1, [*lead, m, column], index(0)).indices[:-2]

        def reduction(step: Any) -> Stmt:
            def at(k: Expr) -> Stmt:
                return step(
                    lambda r: self._operand_at(0, [*lead, m + r, column], k).astype(dtype),
                    lambda v: self._right(right_lead, panel, column, k, v).astype(
                        f"{dtype}x{tile.lanes}"
                    ),
                )

            return loop("k", self.k, at)

        def keep(r: int, v: int, value: Expr) -> Stmt:
            return store(sums, value, r, ramp(index(v * tile.lanes), tile.lanes))

        def row(r: Expr) -> Stmt:
            def element(i: Expr) -> Stmt:
                return self.epilogue.write(load(sums, r, i), [*lead, m + r, column + i])

            size = constant_of(self.n)
            if self.in_place or (size is not None and size % tile.columns == 0):
                return vector_loop("n", tile.columns, tile.lanes, element)
            left = tirx.min(index(tile.columns), self.n - column)
            return vector_loop("n", simplify(left), tile.lanes, element)

        return seq(allocate(sums), emit_tile(tile, reduction, keep), loop("r", tile.rows, row))

    def rows(self, lead: Sequence[Expr], start: Expr, count: Expr, panel: Expr) -> Stmt:
        """``count`` rows from ``start`` of one panel."""
        size, step = constant_of(self.m), self.tile.rows
        if size is not None:
            tiles = simplify(tirx.floordiv(count + step - 1, index(step)))
            return loop(
                "mt",
                tiles,
                lambda t: self.tile_at(
                    self.tile, lead, simplify(tirx.min(start + t * step, index(size - step))), panel
                ),
            )
        single = replace(self.tile, rows=1)
        whole = tirx.floordiv(count, index(step))
        return seq(
            loop("mt", whole, lambda t: self.tile_at(self.tile, lead, start + t * step, panel)),
            loop(
                "mr",
                count - whole * step,
                lambda t: self.tile_at(single, lead, start + whole * step + t, panel),
            ),
        )


def _blocks(work: _Product, machine: Machine, parallel_: bool) -> tuple[Expr, int, Expr]:
    """Rows per block, panels per part, and panels in all."""
    k = constant_of(work.k) or 512
    fitting = max(1, _BLOCK_BYTES // (4 * k) // work.tile.rows) * work.tile.rows
    size, width = constant_of(work.m), constant_of(work.n)
    rows = fitting if size is None else min(fitting, round_up(size, work.tile.rows))
    panels = simplify(tirx.floordiv(work.n + work.tile.columns - 1, index(work.tile.columns)))
    if width is None or not parallel_:
        return index(rows), 4 if width is None else constant_of(panels) or 1, panels
    tasks = constant_of(product(work.batch)) or 1
    tasks *= 1 if size is None else -(-size // rows)
    parts = max(1, -(-4 * machine.cores // tasks))
    return index(rows), max(1, (constant_of(panels) or 1) // parts), panels


def _main(work: _Product, machine: Machine, parallel_: bool) -> Stmt:
    rows, per_part, panels = _blocks(work, machine, parallel_)
    row_blocks = simplify(tirx.floordiv(work.m + rows - 1, rows))
    parts = simplify(tirx.floordiv(panels + per_part - 1, index(per_part)))
    lead_count = len(work.batch)

    def task(*at: Expr) -> Stmt:
        lead, block, part = at[:lead_count], at[-2], at[-1]
        start = block * rows
        count = simplify(tirx.min(rows, work.m - start))
        here = simplify(tirx.min(index(per_part), panels - part * per_part))
        return loop("panel", here, lambda p: work.rows(lead, start, count, part * per_part + p))

    names = [f"b{i}" for i in range(lead_count)] + ["rows", "part"]
    return parallel(names, [*work.batch, row_blocks, parts], task, parallel_)


def _half(length: Expr) -> Expr:
    return simplify(tirx.floordiv(index(length) + 1, index(2)))


def _pack_pairs(packed: Buffer, a: Operand, k: Expr, parallel_: bool, lanes: int) -> Stmt:
    """Fills ``packed`` [.., m, k / 2] with pairs of the left operand; the second value of an
    odd last pair meets a 0.
    """

    def row(*lead: Expr) -> Stmt:
        def element(i: Expr) -> Stmt:
            high = 2 * i + 1
            if constant_of(k) is None or (constant_of(k) or 0) % 2:
                high = tirx.min(high, index(k) - 1)
            return store(packed, pair(a.at([*lead, 2 * i]), a.at([*lead, high])), *lead, i)

        return vector_loop("i", packed.shape[-1], lanes, element)

    names = [f"a{i}" for i in range(len(packed.shape) - 1)]
    return parallel(names, list(packed.shape[:-1]), row, parallel_)


def _right_pair(b: Operand, lead: Sequence[Expr], r: Expr, column: Expr, k: Expr) -> Expr:
    high = b.at([*lead, tirx.min(2 * r + 1, index(k) - 1), column])
    zero = tirx.const(0, high.ty.dtype)
    return pair(b.at([*lead, 2 * r, column]), tirx.Select(2 * r + 1 < k, high, zero))


def _pack_at_run_time(
    packed: Buffer, b: Operand, work: _Product, parallel_: bool, lanes: int
) -> Stmt:
    *lead, panels, k, columns = packed.shape
    n, length = work.n, work.anchor.reduction[0].extent
    width = constant_of(columns) or 1
    size = constant_of(n)

    def panel(*at: Expr) -> Stmt:
        first = at[-1] * width

        def row(r: Expr) -> Stmt:
            def element(i: Expr) -> Stmt:
                if work.left is not None:
                    value = _right_pair(b, at[:-1], r, first + i, length)
                else:
                    value = b.at([*at[:-1], r, first + i]).astype(packed.dtype)
                return store(packed, value, *at, r, i)

            whole = size is not None and size % width == 0
            count = width if whole else simplify(tirx.min(index(width), n - first))
            return vector_loop("i", count, lanes, element)

        return loop("k", k, row)

    names = [f"b{i}" for i in range(len(lead))] + ["panel"]
    return parallel(names, [*lead, panels], panel, parallel_)


def emit_matmul(
    anchor: Stage, func: StagedFunction, constants: Sequence[Buffer], machine: Machine,
    _options: KernelOptions,
) -> EmittedAnchor:  # fmt: skip
    """The nest of a matrix product with its epilogue."""
    left, right = operand_buffers(anchor)
    a, b = find_operand(left, anchor, func), find_operand(right, anchor, func)
    m, n = (constant_of(a.extent) for a in anchor.spatial[-2:])
    tile = choose_tile(machine, anchor.output.dtype, m or 96, n or 256, most_rows=m)
    paired = takes_pairs(anchor.output.dtype, left.dtype, right.dtype)
    if paired:
        tile = replace(tile, multiply=pair_product(machine, tile.lanes))
    columns = tile.columns
    panels = simplify(tirx.floordiv(anchor.spatial[-1].extent + columns - 1, index(columns)))
    dtype = "int32" if paired else packed_dtype(right, tile.dtype)
    depth = _half(right.shape[-2]) if paired else right.shape[-2]
    packed = scratch("packed", [*right.shape[:-2], panels, depth, columns], dtype)
    pairs = scratch("pairs", [*left.shape[:-1], _half(left.shape[-1])], "int32") if paired else None
    epilogue = find_epilogue(anchor, func)
    source = b.source()
    constant = source is not None and any(source[0].same_as(c) for c in constants)
    in_place = not constant and not paired and b.stage is None and _few_rows(m, n, columns)
    work = _Product(anchor, tile, right if in_place else packed, epilogue, in_place, pairs)
    size = constant_of(product([*work.batch, work.m, work.n, work.k]))
    parallel_ = machine.cores > 1 and (size is None or 2 * size >= PARALLEL_FLOPS)
    repacked: dict[Buffer, tuple[Buffer, Packing]] = {}
    prepare: list[Stmt] = []
    if source is not None and constant:
        axes = source[1]
        repacked[source[0]] = (
            packed,
            lambda w: pack_panels(_plain_or_paired(w.transpose(axes), paired), columns).astype(
                dtype
            ),
        )
    elif not in_place:
        copy = _pack_at_run_time(packed, b, work, parallel_, tile.lanes)
        prepare = [allocate(packed), copy]
    if pairs is not None:
        length = anchor.reduction[0].extent
        prepare += [allocate(pairs), _pack_pairs(pairs, a, length, parallel_, tile.lanes)]
    body = seq(*prepare, _main(work, machine, parallel_))
    read = [b.stage, a.stage if paired else None, epilogue.stage]
    consumed = [anchor, *[s for s in read if s is not None]]
    return EmittedAnchor(body, (epilogue.output,), tuple(consumed), repacked)


def _plain_or_paired(weight: NDArray[Any], paired: bool) -> NDArray[Any]:
    return pairs_along(weight, -2) if paired else weight


def _few_rows(m: int | None, n: int | None, columns: int) -> bool:
    return m is not None and m <= _UNPACKED_ROWS and n is not None and n >= columns
