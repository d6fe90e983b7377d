"""The input of one task of an integer convolution: groups of channels, copied with padding.

``[input block][row][column][group]`` of int32, each two channels of 16 bits or four of 8.
Centring by the zero point is computed as the input is copied, once for every task; what lies
outside the input is 0, which is the zero point of centred values. Of a plain input, they are
values of two or four planes; a number of channels that no groups hold ends in one with zeros.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from motet.targets.host.kernels.blocked_conv.direct_plan import DirectPlan, ceil_div
from motet.targets.host.kernels.blocked_conv.integer_groups import Group
from motet.targets.host.kernels.blocked_conv.request import Request
from motet.targets.host.kernels.vectors import vector_loop
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
    ramp,
    scratch,
    seq,
    store,
)


def groups_buffer(plan: DirectPlan) -> Buffer:
    """The copy's buffer; ``plan.in_block`` counts groups."""
    size = plan.in_blocks * plan.input_rows * plan.input_width * plan.in_block
    return scratch("groups", [size], "int32")


def copy_groups(
    request: Request, plan: DirectPlan, group: Group, groups: Buffer, n: Expr, g: Expr, line: Expr
) -> Stmt:
    """Fills ``groups`` for the task whose outputs begin at ``line``."""
    conv = request.conv
    # Of a pointwise convolution with a stride, the positions that it reads, and no others.
    step = conv.strides if plan.flat else (1, 1)
    first = min(ceil_div(conv.left, step[1]), plan.input_width)
    last = max(first, min(ceil_div(conv.left + conv.width, step[1]), plan.input_width))
    copied = _blocked_line if conv.block_in else _plain_line

    def at(icb: Expr, r: Expr, c: Expr) -> Expr:
        return ((icb * plan.input_rows + r) * plan.input_width + c) * plan.in_block

    def zeros(icb: Expr, r: Expr, start: int, count: int) -> Stmt | None:
        begin, zero = at(icb, r, index(start)), tirx.const(0, "int32")
        return (
            vector_loop(
                "z", count * plan.in_block, conv.block, lambda i: store(groups, zero, begin + i)
            )
            if count > 0
            else None
        )

    def inside(icb: Expr, r: Expr, h: Expr) -> Stmt | None:
        def value(channel: Expr, c: Expr) -> Expr:
            column = c * step[1] + (first * step[1] - conv.left)
            return request.input_at(n, g * conv.ic + channel, h, column).astype(group.dtype)

        begin = at(icb, r, index(first))
        return (
            copied(request, plan, group, groups, icb, begin, last - first, value)
            if last > first
            else None
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


_Value = Callable[[Expr, Expr], Expr]


def _blocked_line(
    request: Request, plan: DirectPlan, group: Group, groups: Buffer, icb: Expr, begin: Expr,
    count: int, value: _Value,
) -> Stmt:  # fmt: skip
    """A vector of channels for every position, reinterpreted as groups."""
    block = request.conv.block

    def position(c: Expr) -> Stmt:
        held = scratch("held", [block], group.dtype)
        return seq(
            allocate(held),
            loop(
                "lane", block, lambda v: store(held, value(icb * block + v, c), v), VECTORIZED
            ),
            store(
                groups,
                tirx.reinterpret(f"int32x{block // group.size}", load(held, ramp(index(0), block))),
                ramp(begin + c * plan.in_block, block // group.size),
            ),
        )  # fmt: skip

    return loop("c", count, position)


def _plain_line(
    request: Request, _plan: DirectPlan, group: Group, groups: Buffer, icb: Expr, begin: Expr,
    count: int, value: _Value,
) -> Stmt:  # fmt: skip
    """Pairs of two planes or fours of four; the last group may have fewer."""
    conv, size = request.conv, group.size

    def line(planes: int) -> Stmt:
        def element(c: Expr) -> Stmt:
            return store(groups, group.joined([value(icb * size + i, c) for i in range(planes)]),
                         begin + c)  # fmt: skip

        return vector_loop("c", count, conv.block, element)

    rest = conv.ic % size
    if rest == 0:
        return line(size)
    return line(rest) if conv.ic < size else tirx.IfThenElse(
        icb == conv.ic // size, line(rest), line(size)
    )  # fmt: skip
