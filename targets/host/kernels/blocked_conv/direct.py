"""Direct convolution in the blocked layout.

::

    for group, part of the panels, image, block of output lines: parallel
        padded = the lines' input with its padding                   (unless read in place)
        for panel of ``blocks`` output blocks:
            for chunk of input blocks:
                for tile of ``columns`` output positions:
                    acc[columns][blocks] = 0, or what earlier chunks left in sums
                    for icb, kh, kw, ic:
                        acc[p][b] += padded[icb, position(p) + (kh, kw), ic] * w'[.., ic, b]
                    sums = acc; after the last chunk y = epilogue(acc)

A vector is one output position's block of channels; input values are broadcast. Chunks are
so short that their weights stay in the first-level cache while all positions of the task
pass by. Tiles run over the task's positions without regard to the ends of lines; the last
tile repeats positions. Only values that are equal are written twice, by the same task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.kernels.bfloat import BITS, bits_of
from motet.targets.host.kernels.blocked_conv.direct_input import padded_buffer
from motet.targets.host.kernels.blocked_conv.direct_plan import DirectPlan, make_plan
from motet.targets.host.kernels.blocked_conv.direct_space import describe, points
from motet.targets.host.kernels.blocked_conv.direct_tile import Task, TileNest
from motet.targets.host.kernels.blocked_conv.direct_weights import (
    pack_at_run_time,
    pack_weights,
    packed_buffer,
)
from motet.targets.host.kernels.blocked_conv.geometry import problem_of
from motet.targets.host.kernels.blocked_conv.request import (
    Request,
    Written,
    worth_threads,
)
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    index,
    load,
    loop,
    nest,
    parallel,
    product,
    scratch,
    seq,
    simplify,
)

__all__ = ["describe", "emit", "points", "worth_threads"]

# Positions whose sums stay in the first-level cache while they are transposed.
_TRANSPOSED = 64


@dataclass(frozen=True, eq=False)
class DirectNest(TileNest):
    """Writes the loops around the tiles."""

    def plain_output(self, task: Task, panel: Expr) -> Stmt:
        """Stores a panel's sums in the plain layout."""
        plan, conv = self.plan, self.request.conv
        width = plan.blocks * plan.lanes
        count = simplify(tirx.min(index(width), conv.oc - panel * width))

        def element(o: Expr, number: Expr) -> Stmt:
            out = task.g * conv.oc + panel * width + o
            h, w = self.output_at(task, number)
            return self.request.epilogue.write(load(self.sums, number, o), [task.n, out, h, w])

        def channel(o: Expr, block: Expr) -> Stmt:
            first = block * _TRANSPOSED
            left = tirx.min(index(_TRANSPOSED), task.positions - first)
            return vector_loop("p", left, plan.lanes, lambda i: element(o, first + i))

        blocks = tirx.floordiv(task.positions + (_TRANSPOSED - 1), index(_TRANSPOSED))
        return nest(["block", "o"], [blocks, count], lambda block, o: channel(o, block))

    def panel(self, task: Task, panel: Expr) -> Stmt:
        """All positions of a task for the output channels of one panel."""
        plan = self.plan
        tiles = index(plan.tiles)
        if plan.lines % plan.rows:
            tiles = tirx.floordiv(task.positions + (plan.columns - 1), index(plan.columns))
        sweep = nest(
            ["chunk", "tile"], [plan.chunks, tiles], lambda c, t: self.tile(task, panel, c, t)
        )
        if self.request.conv.block_out:
            return sweep
        return seq(sweep, self.plain_output(task, panel))

    def task(self, g: Expr, part: Expr, n: Expr, block: Expr) -> Stmt:
        """The panels of a part for a block of lines."""
        plan, conv = self.plan, self.request.conv
        line = block * plan.rows
        rows = index(plan.rows)
        if plan.lines % plan.rows:
            rows = tirx.min(rows, plan.lines - line)
        positions = tirx.Var("positions", "int64")
        base: Expr = index(0)
        if plan.in_place:
            plane = plan.input_rows * plan.input_width * plan.in_block
            stride = 1 if plan.flat else conv.strides[0] * plan.input_width
            base = (n * conv.groups + g) * (plan.in_blocks * plane) + line * stride * plan.in_block
        task = Task(n, g, line, positions, base)
        first = part * plan.panels_per_task
        count = index(plan.panels_per_task)
        if plan.panels % plan.panels_per_task:
            count = tirx.min(count, plan.panels - first)
        copy = None if plan.in_place else self.copied(n, g, line)
        return seq(
            tirx.Bind(positions, simplify(rows * plan.width)),
            None if plan.in_place else allocate(self.x),
            None if self.sums is None else allocate(self.sums),
            None if self.table is None else allocate(self.table),
            copy,
            self.fill_table(task),
            loop("panel", count, lambda p: self.panel(task, first + p)),
        )

    def write(self, several: bool) -> Stmt:
        """The whole nest."""
        plan, conv = self.plan, self.request.conv
        # Tasks that follow one another read the same weights.
        extents = [conv.groups, plan.parts, conv.batch, plan.row_blocks]
        return parallel(["g", "part", "n", "rows"], extents, self.task, several)


def flat_input(request: Request, plan: DirectPlan) -> tuple[Buffer, list[Stmt]]:
    """The input as the tiles read it, and what declares it."""
    if not plan.in_place:
        return padded_buffer(plan), []
    source = request.x.buffer
    flat = tirx.decl_buffer([product(source.shape)], source.dtype, source.name, data=source.data)
    return flat, [tirx.DeclBuffer(flat, data=source.data)]


def sums_of(request: Request, plan: DirectPlan, dtype: str = "float32") -> Buffer | None:
    """What chunks leave for the next one, and the last one for a plain output."""
    if plan.chunks == 1 and request.conv.block_out:
        return None
    slots = plan.tiles * plan.columns
    return scratch("sums", [slots, plan.blocks * plan.lanes], dtype)


def table_of(plan: DirectPlan) -> Buffer | None:
    """Where each position of a task reads its first input element."""
    return None if plan.adjacent else scratch("table", [plan.tiles * plan.columns], "int64")


def _packing(request: Request, plan: DirectPlan) -> Callable[[NDArray[Any]], NDArray[Any]]:
    assert request.source is not None
    axes, groups = request.source[1], request.conv.groups
    in_block, width = plan.in_block, plan.blocks * plan.lanes

    def pack(weights: NDArray[Any]) -> NDArray[Any]:
        ordered = weights.transpose(axes)
        kept = bits_of(ordered) if request.bits else ordered
        return pack_weights(kept, groups, in_block, width)

    return pack


def emit(request: Request) -> Written:
    """The nest of a direct convolution."""
    problem = problem_of(request.conv, request.source is not None, True)
    plan = make_plan(dict(problem.sizes), request.point)
    several = worth_threads(request)
    packed = packed_buffer(request.conv, plan, BITS if request.bits else "float32")
    x, declared = flat_input(request, plan)
    main = DirectNest(request, plan, x, packed, sums_of(request, plan), table_of(plan)).write(
        several
    )
    if request.source is not None:
        return Written(seq(*declared, main), (packed, _packing(request, plan)))
    pack = pack_at_run_time(packed, request.weights, request.conv, plan, several)
    return Written(seq(allocate(packed), pack, *declared, main), None)
