"""Winograd's output transform of one tile and one block of channels, with the epilogue."""

from __future__ import annotations

from tvm import tirx

from motet.targets.host.kernels.blocked_conv.winograd_transforms import (
    Lines,
    TileTransform,
    transform_outputs,
)  # fmt: skip
from motet.targets.host.kernels.blocked_conv.winograd_writing import TileGroup, Writing
from motet.targets.host.loops import (
    VECTORIZED,
    Buffer,
    Expr,
    Stmt,
    allocate,
    index,
    load,
    loop,
    ramp,
    scratch,
    seq,
    store,
)  # fmt: skip


def write_output_tile(
    writing: Writing, group: TileGroup, products: Buffer, sweep: Expr, i: Expr, b: Expr
) -> Stmt:
    """``A^T products A`` of tile ``i`` of ``group``, of channel block ``b`` of ``sweep``.

    products: [tile][point][channel of the sweep].
    """
    plan, conv = writing.plan, writing.request.conv
    h, w = tirx.Var("h", "int64"), tirx.Var("w", "int64")
    block = sweep * plan.sweep_blocks + b

    def column(lines: Lines, j: Expr) -> list[Expr]:
        at = ramp(b * plan.block, plan.block)
        points = [k * plan.edge + j for k in range(plan.edge)]
        return [lines.bind(load(products, i, point, at)) for point in points]

    def finish(k: Expr, results: list[Expr]) -> Stmt:
        return _write_row(writing, results, (group.n, block, h + k, w))

    rows = index(plan.size)
    if conv.out_height % plan.size:
        rows = tirx.min(rows, conv.out_height - h)
    transform = TileTransform(
        writing.matrices.outputs, transform_outputs, plan.block, writing.dtype, group.half
    )
    return writing.at_tile(group.first + i, (h, w, transform.statement(column, rows, finish)))


def _write_row(writing: Writing, results: list[Expr], at: tuple[Expr, Expr, Expr, Expr]) -> Stmt:
    """A row of a tile from (n, block, h, w) on, but for positions that the output lacks."""
    plan, conv, lanes = writing.plan, writing.request.conv, writing.plan.block
    n, block, h, w = at
    if writing.finished is not None:
        results = [writing.finished(value) for value in results]
    row = scratch("row", [plan.size * lanes], str(results[0].ty.dtype).split("x")[0])

    def write(j: int) -> Stmt:
        def element(lane: Expr) -> Stmt:
            where = writing.request.position(n, block, h, w + j, lane)
            return writing.request.epilogue.write(load(row, j * lanes + lane), where)

        if conv.block_out:
            written = loop("lane", lanes, element, VECTORIZED)
        else:
            written = loop("lane", tirx.min(index(lanes), conv.outs - block * lanes), element)
        if j == 0 or conv.out_width % plan.size == 0:
            return written
        return tirx.IfThenElse(w + j < conv.out_width, written, None)

    slots = [ramp(index(j * lanes), lanes) for j in range(plan.size)]
    stores = [store(row, value, slot) for value, slot in zip(results, slots, strict=True)]
    return seq(allocate(row), *stores, *[write(j) for j in range(plan.size)])
