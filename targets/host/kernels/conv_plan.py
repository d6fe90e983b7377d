"""How a convolution's work is cut into tasks and tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx

from motet.targets.host.kernels.conv_geometry import Convolution
from motet.targets.host.kernels.tile import Tile, choose_tile, with_pairs
from motet.targets.host.loops import (
    Expr,
    constant_of,
    index,
    product,
    round_up,
    simplify,
)  # fmt: skip
from motet.targets.host.machine import Machine

# Floating-point operations below which a parallel launch costs more than it saves.
PARALLEL_FLOPS = 1_000_000
# Bytes of input that a block of output rows may read, so that it stays in the second-level cache.
_BLOCK_BYTES = 192 * 1024
_LOCAL_COPY_BYTES = 128 * 1024
# Multiply-accumulates of a reduction step that are written out, not looped over.
UNROLLED_STEPS = 120


@dataclass(frozen=True, eq=False)
class Plan:
    """How the work is cut: ``rows`` outermost output rows and a part of the channel blocks
    to a task; ``local`` copies the input inside the task, for one group at a time.
    """

    tile: Tile
    rows: Expr
    row_blocks: Expr
    channel_blocks: int
    channel_parts: int
    parallel: bool
    local: bool


def _rows_per_block(conv: Convolution, tile: Tile) -> Expr:
    total, pitch = constant_of(conv.outputs[0]), constant_of(conv.pitches[0])
    if total == 0:  # nothing to cut: the kernel is empty
        return index(1)
    if conv.direct or total is None or pitch is None:
        block = 8 * tile.columns if len(conv.outputs) == 1 else 4
        return index(block if total is None else min(total, _direct_block(conv, tile, total)))
    budget = max(1, _BLOCK_BYTES // (4 * conv.ic * pitch * max(1, int(np.prod(conv.phases)))))

    def cost(rows: int) -> float:
        span = constant_of(conv.row_span(index(rows))) or pitch * rows
        blocks = -(-total // rows)
        return blocks * (round_up(span, tile.columns) + tile.columns / 4)

    return index(min(range(1, min(total, budget) + 1), key=cost))


def _direct_block(conv: Convolution, tile: Tile, total: int) -> int:
    """Positions per block of a one-axis convolution: whole tiles within the cache."""
    fitting = max(1, _BLOCK_BYTES // (4 * conv.ic) // tile.columns)
    blocks = -(-total // (fitting * tile.columns))
    return round_up(-(-total // blocks), tile.columns)


def make_plan(conv: Convolution, machine: Machine) -> Plan:
    """The cut for ``machine``."""
    span = constant_of(conv.row_span(conv.outputs[0])) or 10_000
    tile = choose_tile(machine, conv.dtype, conv.oc, span)
    if conv.paired:
        tile = with_pairs(tile, machine)
    plane = constant_of(conv.plane)
    local = (
        conv.groups > 1 and not conv.direct and plane is not None
        and conv.ic * plane * 4 <= _LOCAL_COPY_BYTES
    )  # fmt: skip
    rows = conv.outputs[0] if local else _rows_per_block(conv, tile)
    row_blocks = simplify(tirx.floordiv(conv.outputs[0] + rows - 1, rows))
    blocks = -(-conv.oc // tile.rows)
    flops = constant_of(product([conv.batch, *conv.outputs]))
    work = None if flops is None else 2 * flops * conv.oc * conv.groups * conv.ic * conv.taps
    several = machine.cores > 1 and (work is None or work >= PARALLEL_FLOPS)
    tasks = constant_of(product([conv.batch, row_blocks])) or 1
    wanted = -(-4 * machine.cores // (tasks * conv.groups)) if several else 1
    return Plan(tile, rows, row_blocks, blocks, min(blocks, wanted), several, local)
