"""Winograd's input transform of one tile and one block of channels."""

from __future__ import annotations

from tvm import tirx

from motet.targets.host.kernels.blocked_conv.winograd_transforms import (
    Lines,
    TileTransform,
    transform_inputs,
)  # fmt: skip
from motet.targets.host.kernels.blocked_conv.winograd_writing import TileGroup, Writing
from motet.targets.host.loops import (
    VECTORIZED,
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


def write_input_tile(writing: Writing, group: TileGroup, icb: Expr, i: Expr) -> Stmt:
    """``B^T x B`` of tile ``i`` of ``group``, of channel block ``icb``.

    Tiles inside the input are read without a look at its borders.
    """
    plan, conv = writing.plan, writing.request.conv
    h, w = tirx.Var("h", "int64"), tirx.Var("w", "int64")
    top, left = h - conv.top, w - conv.left
    inside = tirx.all(
        top >= 0, top <= conv.height - plan.edge, left >= 0, left <= conv.width - plan.edge
    )
    parts = [_transform(writing, group, icb, i, (top, left), guarded) for guarded in (False, True)]
    return writing.at_tile(group.first + i, (h, w, tirx.IfThenElse(inside, *parts)))


def _transform(
    writing: Writing, group: TileGroup, icb: Expr, i: Expr, corner: tuple[Expr, Expr],
    guarded: bool,
) -> Stmt:  # fmt: skip
    plan, lanes, edge = writing.plan, writing.plan.block, writing.plan.edge
    start = group.base + (icb * plan.group + i) * lanes
    raw = scratch("raw", [edge * lanes], writing.input_dtype)

    def column(lines: Lines, j: Expr) -> list[Expr]:
        lines.statements.append(allocate(raw))
        for k in range(edge):
            at = corner[0] + k, corner[1] + j

            def read(lane: Expr, k: int = k, at: tuple[Expr, Expr] = at) -> Stmt:
                value = _element(writing, group.n, icb * lanes + lane, at, guarded)
                return store(raw, value, k * lanes + lane)

            lines.statements.append(loop("lane", lanes, read, VECTORIZED))
        return [lines.bind(load(raw, ramp(index(k * lanes), lanes))) for k in range(edge)]

    def finish(k: Expr, results: list[Expr]) -> Stmt:
        slots = [start + (k * edge + j) * plan.plane for j in range(edge)]
        pairs = zip(slots, results, strict=True)
        return seq(*[store(group.values, value, ramp(slot, lanes)) for slot, value in pairs])

    transform = TileTransform(
        writing.matrices.inputs, transform_inputs, lanes, writing.input_dtype, group.input_half
    )
    return transform.statement(column, index(edge), finish)


def _element(
    writing: Writing, n: Expr, channel: Expr, at: tuple[Expr, Expr], guarded: bool
) -> Expr:
    """The input at a position; 0 outside of it where ``guarded``."""
    conv, (h, w) = writing.request.conv, at
    value = writing.request.input_at(n, channel, h, w).astype(writing.input_dtype)
    if not guarded:
        return value
    inside = tirx.all(h >= 0, h < conv.height, w >= 0, w < conv.width)
    return tirx.if_then_else(inside, value, tirx.const(0, writing.input_dtype))
