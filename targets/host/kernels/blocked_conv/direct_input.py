"""The input of one task of a direct convolution, copied with its padding.

``[input block][row][column][channel]`` of the rows and columns that the task's outputs read;
what lies outside the input is 0. A copy costs a load and a store for every vector, which
meets ``kernel * output channels`` multiply-accumulates; afterwards no tap needs a condition,
all of a task's input is in the second-level cache, and what a prologue computes is computed
once.
"""

from __future__ import annotations

from tvm import tirx

from motet.targets.host.kernels.blocked_conv.direct_plan import DirectPlan, ceil_div
from motet.targets.host.kernels.blocked_conv.request import Request
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.loops import (
    VECTORIZED,
    Buffer,
    Expr,
    Stmt,
    index,
    loop,
    nest,
    scratch,
    seq,
    store,
)


def padded_buffer(plan: DirectPlan) -> Buffer:
    """The copy's buffer."""
    size = plan.in_blocks * plan.input_rows * plan.input_width * plan.in_block
    return scratch("padded", [size], "float32")


def copy_input(
    request: Request, plan: DirectPlan, padded: Buffer, n: Expr, g: Expr, line: Expr
) -> Stmt:
    """Fills ``padded`` for the task whose outputs begin at ``line``."""
    conv, b = request.conv, plan.in_block
    # Of a pointwise convolution with a stride, the positions that it reads, and no others.
    step = conv.strides if plan.flat else (1, 1)
    first = min(ceil_div(conv.left, step[1]), plan.input_width)
    last = max(first, min(ceil_div(conv.left + conv.width, step[1]), plan.input_width))

    def at(icb: Expr, r: Expr, c: Expr, lane: Expr) -> Expr:
        return ((icb * plan.input_rows + r) * plan.input_width + c) * b + lane

    def zeros(icb: Expr, r: Expr, start: int, count: int) -> Stmt | None:
        if count <= 0:
            return None
        zero, begin = tirx.const(0, "float32"), at(icb, r, index(start), index(0))
        return vector_loop(
            "z", count * b, conv.block, lambda i: store(padded, zero, begin + i)
        )  # fmt: skip

    def inside(icb: Expr, r: Expr, h: Expr) -> Stmt | None:
        def element(c: Expr, lane: Expr) -> Stmt:
            channel = (g * plan.in_blocks + icb) * b + lane
            column = c * step[1] + (first * step[1] - conv.left)
            value = request.input_at(n, channel, h, column)
            return store(padded, value, at(icb, r, c + first, lane))

        if last == first:
            return None
        if b == 1:
            return vector_loop("c", last - first, conv.block, lambda c: element(c, index(0)))
        return loop(
            "c", last - first, lambda c: loop("lane", b, lambda v: element(c, v), VECTORIZED)
        )

    def row(icb: Expr, r: Expr) -> Stmt:
        h = line * conv.strides[0] + r * step[0] - conv.top
        body = seq(
            zeros(icb, r, 0, first),
            inside(icb, r, h),
            zeros(icb, r, last, plan.input_width - last),
        )
        empty = zeros(icb, r, 0, plan.input_width)
        return tirx.IfThenElse(tirx.all(h >= 0, h < conv.height), body, empty)

    return nest(["icb", "r"], [plan.in_blocks, plan.input_rows], row)
