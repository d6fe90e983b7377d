"""One register tile of a direct convolution: where its positions lie, its sums, its outputs.

Accumulators are a vector of output channels each; input values are broadcast. Tiles run over
a task's positions without regard to the ends of lines; the last tile repeats positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from motet.targets.host.kernels.bfloat import widened
from motet.targets.host.kernels.blocked_conv.direct_input import copy_input
from motet.targets.host.kernels.blocked_conv.direct_plan import DirectPlan
from motet.targets.host.kernels.blocked_conv.geometry import BlockedConv
from motet.targets.host.kernels.blocked_conv.request import Request
from motet.targets.host.loops import (
    VECTORIZED,
    Buffer,
    Expr,
    Stmt,
    allocate,
    broadcast,
    index,
    load,
    loop,
    nest,
    ramp,
    scratch,
    seq,
    simplify,
    store,
)

# Steps of the reduction that are written out, not looped over.
_UNROLLED_STEPS = 9
# Of all kernel rows, those over padding.
_SKIPPED_SHARE = 0.02


_LINE_BYTES = 64


def prefetch_address(element: Expr) -> Stmt:
    """A hint that the line of ``element`` will be read: into the second-level cache."""
    hint = [tirx.const(v, "int32") for v in (0, 2, 1)]
    return tirx.Evaluate(
        tirx.call_llvm_intrin("void", "llvm.prefetch", tirx.address_of(element), *hint)
    )


@dataclass(frozen=True, eq=False)
class Task:
    """Where a task is: image, group, its first output line, how many positions it has, and
    the input element that its first output reads first.
    """

    n: Expr
    g: Expr
    line: Expr
    positions: Expr
    base: Expr


@dataclass(frozen=True, eq=False)
class TileNest:
    """Writes a register tile; ``x`` is the input in place or its padded copy, flat.

    ``dtype``, ``input_at``, ``added`` and ``copied`` are what the nest of integers has otherwise.
    """

    request: Request
    plan: DirectPlan
    x: Buffer
    weights: Buffer
    sums: Buffer | None
    table: Buffer | None
    dtype: ClassVar[str] = "float32"

    def input_at(self, element: Expr) -> Expr:
        """One element of the input."""
        return load(self.x, element)

    def added(self, total: Expr, x: Expr, weights: Expr) -> Expr:
        """``total`` plus the products of two vectors."""
        return total + x * weights

    def copied(self, n: Expr, g: Expr, line: Expr) -> Stmt:
        """Fills ``x`` with the input of a task."""
        return copy_input(self.request, self.plan, self.x, n, g, line)

    def positions(self, task: Task, tile: Expr) -> tuple[list[Stmt], list[Expr], list[Expr]]:
        """Numbers of the tile's positions in the task, and where each reads its input."""
        plan, conv = self.plan, self.request.conv
        first = tile * plan.columns
        stride = 1 if plan.flat else conv.strides[1]
        if plan.adjacent:
            if plan.flat and plan.ragged:
                first = tirx.min(first, task.positions - plan.columns)
            start = tirx.Var("start", "int64")
            base = tirx.Var("base", "int64")
            numbers = [start + i for i in range(plan.columns)]
            offsets = [base + i * stride * plan.in_block for i in range(plan.columns)]
            binds = [tirx.Bind(start, first), tirx.Bind(base, task.base + self._offset(start))]
            return binds, numbers, offsets
        binds, numbers, offsets = [], [], []
        for i in range(plan.columns):
            number, offset = tirx.Var(f"p{i}", "int64"), tirx.Var(f"x{i}", "int64")
            at = tirx.min(first + i, task.positions - 1) if plan.ragged else first + i
            binds += [tirx.Bind(number, at), tirx.Bind(offset, load(self.table, first + i))]
            numbers.append(number)
            offsets.append(offset)
        return binds, numbers, offsets

    def fill_table(self, task: Task) -> Stmt | None:
        """Where each position of the task reads its first input element.

        Loads, whose values the compiler knows nothing about, keep it from deriving the
        addresses anew for every tap.
        """
        plan = self.plan
        if self.table is None:
            return None

        def entry(i: Expr) -> Stmt:
            number = tirx.min(i, task.positions - 1) if plan.ragged else i
            return store(self.table, task.base + self._offset(number), i)

        return loop("i", self.table.shape[0], entry)

    def _offset(self, number: Expr) -> Expr:
        """The first input element of position ``number``, counted from the task's."""
        plan, conv = self.plan, self.request.conv
        if plan.flat:
            return number * plan.in_block
        line = tirx.floordiv(number, index(plan.width))
        column = tirx.floormod(number, index(plan.width))
        row = line * (conv.strides[0] * plan.input_width)
        return (row + column * conv.strides[1]) * plan.in_block

    def reduction(
        self, acc: Sequence[Buffer], task: Task, panel: Expr, chunk: Expr, tile: Expr,
        at: Sequence[Expr], rows: tuple[Expr, Expr] | None,
    ) -> Stmt:  # fmt: skip
        """``acc += `` the chunk's products for input elements ``at``; ``rows`` of the kernel."""
        plan, conv = self.plan, self.request.conv
        first = chunk * plan.split
        count = simplify(tirx.min(index(plan.split), plan.in_blocks - first))
        if plan.in_blocks % plan.split == 0:
            count = index(plan.split)

        def tap(icb: Expr, kh: Expr, kw: Expr) -> Stmt:
            row = icb * plan.input_rows + kh * conv.dilation[0]
            element = (row * plan.input_width + kw * conv.dilation[1]) * plan.in_block
            weight = (task.g, panel, icb, kh, kw)
            steps = [
                self._step(acc, at, element + c, (*weight, index(c)))
                for c in range(plan.in_block)
            ]  # fmt: skip
            return seq(*self.prefetch(weight, tile), *steps)

        def kernel_row(icb: Expr, kh: Expr) -> Stmt:
            if plan.in_block * conv.kernel[1] > _UNROLLED_STEPS:
                return loop("kw", conv.kernel[1], lambda kw: tap(icb, kh, kw))
            return seq(*[tap(icb, kh, index(kw)) for kw in range(conv.kernel[1])])

        steps = plan.in_block * conv.kernel[0] * conv.kernel[1]
        if rows is None and steps <= _UNROLLED_STEPS:
            return loop(
                "icb", count,
                lambda i: seq(*[kernel_row(first + i, index(kh)) for kh in range(conv.kernel[0])]),
            )  # fmt: skip

        start, extent = rows or (index(0), index(conv.kernel[0]))
        return nest(
            ["icb", "kh"], [count, extent], lambda i, kh: kernel_row(first + i, start + kh)
        )  # fmt: skip

    def kernel_rows(
        self, task: Task, numbers: Sequence[Expr]
    ) -> tuple[list[Stmt], tuple[Expr, Expr] | None]:
        """The first kernel row, and how many, that meet the input from any row of a tile."""
        conv, plan = self.request.conv, self.plan
        if not skips_rows(conv, plan):
            return [], None
        stride, dilation = conv.strides[0], conv.dilation[0]
        above, below = (
            (task.line + tirx.floordiv(number, index(plan.width))) * stride - conv.top
            for number in (numbers[0], numbers[-1])
        )
        start, count = tirx.Var("kh_first", "int64"), tirx.Var("kh_count", "int64")
        first = tirx.max(tirx.floordiv(dilation - 1 - below, index(dilation)), index(0))
        last = tirx.floordiv(conv.height - 1 - above, index(dilation)) + 1
        last = tirx.min(last, index(conv.kernel[0]))
        binds = [tirx.Bind(start, first), tirx.Bind(count, tirx.max(last - start, index(0)))]
        return binds, (start, count)

    def _step(
        self, acc: Sequence[Buffer], at: Sequence[Expr], tap: Expr, weight: Sequence[Expr]
    ) -> Stmt:
        """One input channel of one tap; the fewer operands stay in registers."""
        plan = self.plan
        lanes = plan.lanes

        def left(i: int) -> Expr:
            return broadcast(self.input_at(at[i] + tap), lanes)

        def right(v: int) -> Expr:
            return widened(load(self.weights, *weight, ramp(index(v * lanes), lanes)))

        by_columns = plan.columns > plan.blocks
        kept, moving = (right, left) if by_columns else (left, right)
        kept_count, moving_count = min(plan.columns, plan.blocks), max(plan.columns, plan.blocks)
        statements: list[Stmt] = []

        def bind(name: str, value: Expr) -> Expr:
            bound = tirx.Var(name, value.ty)
            statements.append(tirx.Bind(bound, value))
            return bound

        held = [bind(f"k{k}", kept(k)) for k in range(kept_count)]
        for m in range(moving_count):
            value = bind(f"m{m}", moving(m))
            for k in range(kept_count):
                i, v = (m, k) if by_columns else (k, m)
                factors = (value, held[k]) if by_columns else (held[k], value)
                lane = ramp(index(v * lanes), lanes)
                statements.append(store(acc[i], self.added(load(acc[i], lane), *factors), lane))
        return seq(*statements)

    def prefetch(self, weight: Sequence[Expr], tile: Expr) -> list[Stmt]:
        """Asks for a share of the tap's weights in the next chunk, which lie behind this one's.

        Otherwise a chunk's first tile, which reads them for the first time, waits for memory
        that the other tiles leave idle.
        """
        plan, (g, panel, icb, kh, kw) = self.plan, weight
        if not plan.prefetches(self.request.conv.kernel[0] * self.request.conv.kernel[1]):
            return []
        line = 8 * _LINE_BYTES // int(tirx.const(0, self.weights.dtype).ty.dtype.bits)
        lines = plan.in_block * plan.blocks * plan.lanes // line
        share = -(-lines // plan.tiles)
        first = tile * (share * line)
        return [
            prefetch_address(
                load(self.weights, g, panel, icb + plan.split, kh, kw, 0, first + i * line)
            )
            for i in range(share)
        ]

    def tile(self, task: Task, panel: Expr, chunk: Expr, tile: Expr) -> Stmt:
        """One register tile, from its start to what becomes of it."""
        plan = self.plan
        acc = [scratch(f"acc{i}", [plan.blocks * plan.lanes], self.dtype)
               for i in range(plan.columns)]  # fmt: skip
        binds, numbers, offsets = self.positions(task, tile)
        slots = [tile * plan.columns + i for i in range(plan.columns)]
        if plan.chunks == 1:
            slots = numbers
        each = [(i, v) for i in range(plan.columns) for v in range(plan.blocks)]

        def lane(v: int) -> Expr:
            return ramp(index(v * plan.lanes), plan.lanes)

        zero = broadcast(tirx.const(0, self.dtype), plan.lanes)
        start = seq(*[store(acc[i], zero, lane(v)) for i, v in each])
        if plan.chunks > 1:
            again = [store(acc[i], load(self.sums, slots[i], lane(v)), lane(v)) for i, v in each]
            start = tirx.IfThenElse(chunk == 0, start, seq(*again))

        def keep() -> Stmt:
            return seq(
                *[store(self.sums, load(acc[i], lane(v)), slots[i], lane(v)) for i, v in each]
            )

        def finish() -> Stmt:
            return seq(*[self._write(task, panel, v, numbers[i], acc[i]) for i, v in each])

        if self.request.conv.block_out == 0:
            end = keep()
        elif plan.chunks > 1:
            end = tirx.IfThenElse(chunk == plan.chunks - 1, finish(), keep())
        else:
            end = finish()
        row_binds, rows = self.kernel_rows(task, numbers)
        reduction = self.reduction(acc, task, panel, chunk, tile, offsets, rows)
        return seq(*binds, *row_binds, *[allocate(a) for a in acc], start, reduction, end)

    def output_at(self, task: Task, number: Expr) -> tuple[Expr, Expr]:
        """Row and column of a position of the task."""
        plan = self.plan
        width = self.request.conv.out_width
        flat = task.line * plan.width + number
        return tirx.floordiv(flat, index(width)), tirx.floormod(flat, index(width))

    def _write(self, task: Task, panel: Expr, v: int, number: Expr, acc: Buffer) -> Stmt:
        """Stores one vector of the blocked output."""
        plan = self.plan
        block = panel * plan.blocks + v
        h, w = self.output_at(task, number)
        write = self.request.epilogue.write

        def element(lane: Expr) -> Stmt:
            at = self.request.position(task.n, task.g * plan.out_blocks + block, h, w, lane)
            return write(load(acc, index(v * plan.lanes) + lane), at)

        statement = loop("lane", plan.lanes, element, VECTORIZED)
        if plan.out_blocks % plan.blocks == 0:
            return statement
        return tirx.IfThenElse(block < plan.out_blocks, statement, None)


def skips_rows(conv: BlockedConv, plan: DirectPlan) -> bool:
    """Whether leaving out kernel rows that meet only padding saves a part worth a branch."""
    outside = sum(
        not 0 <= line * conv.strides[0] + kh * conv.dilation[0] - conv.top < conv.height
        for line in range(conv.out_height) for kh in range(conv.kernel[0])
    )  # fmt: skip
    share = outside / (conv.out_height * conv.kernel[0])
    return conv.kernel[0] > 1 and share > _SKIPPED_SHARE
