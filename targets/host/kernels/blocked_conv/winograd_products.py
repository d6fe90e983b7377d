"""The products of Winograd's convolution: one matrix product per point of a tile."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from motet.targets.host.kernels.blocked_conv.winograd_plan import SHARED
from motet.targets.host.kernels.blocked_conv.winograd_writing import TileGroup, Writing
from motet.targets.host.kernels.conv_plan import UNROLLED_STEPS
from motet.targets.host.kernels.tile import Tile, emit_tile
from motet.targets.host.loops import Buffer, Expr, Stmt, index, load, loop, ramp, seq, store

_LINE_FLOATS = 16
_READ, _INTO_SECOND_LEVEL, _DATA = 0, 2, 1


def write_products(
    writing: Writing, group: TileGroup, products: Buffer, sweep: Expr, point: Expr, panel: Expr
) -> Stmt:
    """``products[tile][point][channels of a panel]`` of all tiles of a group.

    The last register tile fetches the weights of the next panel into the second-level cache
    where each weight is read once: they come from afar.
    """
    plan, start, statements = writing.plan, 0, []
    where = sweep, point, panel
    once = plan.order == SHARED or plan.groups == 1
    for rows, count in plan.row_parts:
        ahead = once and start + rows * count == plan.group

        def tiles(k: Expr, rows: int = rows, start: int = start, ahead: bool = ahead) -> Stmt:
            return _product(writing, group, products, where, start + k * rows, rows, ahead)

        statements.append(loop("rows", count, tiles))
        start += rows * count
    return seq(*statements)


def _product(
    writing: Writing, group: TileGroup, products: Buffer, where: tuple[Expr, Expr, Expr],
    start: Expr, rows: int, ahead: bool,
) -> Stmt:  # fmt: skip
    """A register tile: ``rows`` tiles from ``start`` times the panel at ``where``."""
    plan, lanes, pair = writing.plan, writing.plan.block, writing.pair
    _, point, panel = where
    each = lanes // pair
    unrolled = _unrolled(rows * plan.vectors, each)

    def left(at: Expr) -> Expr:
        if pair == 1:
            return load(group.values, at)
        return tirx.reinterpret("int32", load(group.values, ramp(at, pair)))

    def reduction(step: Any) -> Stmt:
        def part(icb: Expr, p: Expr) -> Stmt:
            """``unrolled`` steps of a block's."""
            first = p * unrolled
            at = group.base + point * plan.plane + (icb * plan.group + start) * lanes
            at = at + first * pair
            channel = icb * each + first
            steps = [
                step(
                    lambda r, k=k: left(at + (r * lanes + k * pair)),
                    lambda v, k=k: load(
                        writing.weights, *where, channel + k, ramp(index(v * lanes), lanes)
                    ),
                )
                for k in range(unrolled)
            ]
            return seq(*steps)

        def block(icb: Expr) -> Stmt:
            fetches = _fetches(writing, where, icb) if ahead else []
            return seq(*fetches, loop("part", each // unrolled, lambda p: part(icb, p)))

        return loop("icb", plan.ic_blocks, block)

    def finish(r: int, v: int, value: Expr) -> Stmt:
        lane = panel * plan.columns + v * lanes
        return store(products, value, start + r, point, ramp(lane, lanes))

    tile = Tile(rows, plan.vectors, lanes, writing.dtype, accumulate=writing.accumulate)
    return emit_tile(tile, reduction, finish)


def _unrolled(accumulators: int, steps: int) -> int:
    """How many of a block's ``steps`` are written out, not looped over."""
    unrolled = steps
    while unrolled > 1 and accumulators * unrolled > UNROLLED_STEPS:
        unrolled //= 2
    return unrolled


def _fetches(writing: Writing, where: tuple[Expr, Expr, Expr], icb: Expr) -> list[Stmt]:
    """Prefetches of what block ``icb`` reads, one panel later.

    Past the last panel they name addresses outside the weights, which a prefetch may.
    """
    plan = writing.plan
    steps = plan.block // writing.pair
    channel = (icb + plan.ic_blocks) * steps
    lines = range(0, steps * plan.columns, _LINE_FLOATS)
    addresses = [tirx.address_of(load(writing.weights, *where, channel, line)) for line in lines]
    settings = _READ, _INTO_SECOND_LEVEL, _DATA
    return [
        tirx.Evaluate(tirx.call_intrin("void", "tirx.prefetch", address, *settings))
        for address in addresses
    ]  # fmt: skip
