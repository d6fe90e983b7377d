"""The padded copy of a convolution's input, each stride phase of an axis contiguous."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from tvm import tirx
from tvm.ir import Call

from motet.targets.host.exprs import substitute, walk
from motet.targets.host.kernels.conv_geometry import Convolution
from motet.targets.host.kernels.pairs import pair
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    constant_of,
    index,
    loop,
    nest,
    product,
    seq,
    simplify,
    store,
)  # fmt: skip
from motet.targets.host.stages import Stage


def _conjunction(condition: Expr) -> list[Expr]:
    if isinstance(condition, tirx.And):
        return _conjunction(condition.a) + _conjunction(condition.b)
    return [condition]


def _guard(pad: Stage) -> list[Expr]:
    """The terms of the condition under which a padded position lies in the input."""
    value = pad.value
    if (
        isinstance(value, Call)
        and "motet.role" in pad.attrs
        and any(
            int(a) or int(b) or int(z) > 1
            for a, b, z in zip(*(pad.attrs[k] for k in ("before", "after", "zeros")), strict=True)
        )
    ):
        return _conjunction(value.args[0])
    return []


def _copy_row(
    conv: Convolution, pad: Stage, target: Buffer, start: Expr, lead: Sequence[Expr],
    phase: int, lanes: int,
) -> Stmt:  # fmt: skip
    """Fills one row (last axis) of one phase; ``lead`` are the padded positions before it."""
    length, stride = conv.lengths[-1], conv.strides[-1]
    axes = [a.var for a in pad.spatial]

    def put(value: Expr, q: Expr) -> Stmt:
        def at(channel: Expr) -> Expr:
            where = [lead[0], channel, *lead[2:], q * stride + phase]
            return substitute(value, dict(zip(axes, where, strict=True)))

        return store(target, workspace_value(conv, lead[1], at), start + q)

    guard = _guard(pad)
    if not guard or int(pad.attrs["zeros"][-1]) != 1:
        return vector_loop("q", length, lanes, lambda q: put(pad.value, q))
    before, after = int(pad.attrs["before"][-1]), int(pad.attrs["after"][-1])
    inside = pad.spatial[-1].extent - after - phase + stride - 1
    first = simplify(tirx.min(index(max(0, -(-(before - phase) // stride))), length))
    last = simplify(tirx.max(tirx.min(tirx.floordiv(inside, index(stride)), length), first))
    zero = tirx.const(0, target.dtype)

    def zeros(at: Expr, count: Expr) -> Stmt | None:
        count = simplify(count)
        if constant_of(count) == 0:
            return None
        return loop("z", count, lambda q: store(target, zero, start + at + q))

    row = seq(
        zeros(index(0), first),
        vector_loop(
            "q", simplify(last - first), lanes, lambda q: put(pad.value.args[1], q + first)
        ),
        zeros(last, length - last),
    )
    rows_guard = [t for t in guard if not any(e.same_as(axes[-1]) for e in walk(t))]
    if not rows_guard:
        return row
    condition = substitute(tirx.all(*rows_guard), dict(zip(axes, lead, strict=False)))
    empty = vector_loop("z", length, lanes, lambda q: store(target, zero, start + q))
    return tirx.IfThenElse(condition, row, empty)


def workspace_value(conv: Convolution, channel: Expr, at: Callable[[Expr], Expr]) -> Expr:
    """What the workspace holds of a channel, whose input is ``at(channel)``; of a pair of
    channels where ``conv`` is paired.

    The second half of an odd last pair is any value: its weights are 0.
    """
    if not conv.paired or conv.channels == 1:
        return at(channel).astype(conv.dtype)
    group, low = tirx.floordiv(channel, index(conv.ic)), tirx.floormod(channel, index(conv.ic)) * 2
    high = low + 1
    if conv.channels % 2:
        high = tirx.min(high, index(conv.channels - 1))
    first = group * conv.channels
    return pair(at(simplify(first + low)), at(simplify(first + high)))


# More phases than this (patches of 16 x 16 have 256) are loops, not statements of their own.
_MOST_WRITTEN_OUT = 16


def copy_channel(
    conv: Convolution, pad: Stage, target: Buffer, start: Expr, n: Expr, c: Expr, lanes: int
) -> Stmt:
    """Fills all phases of one channel from ``start``."""
    plane = product(conv.lengths)
    *outer, last = conv.phases

    def fill(number: int | Expr, phases: Sequence[int | Expr], phase: int) -> Stmt:
        base = start + plane * number

        def row(*q: Expr) -> Stmt:
            at = sum((i * p for i, p in zip(q, conv.pitches, strict=False)), index(0))
            lead = [i * s + p for i, s, p in zip(q, conv.strides, phases, strict=False)]
            return _copy_row(conv, pad, target, base + at, [n, c, *lead], phase, lanes)

        names = [f"q{i}" for i in range(len(outer))]
        return nest(names, conv.lengths[:-1], row)

    if math.prod(conv.phases) <= _MOST_WRITTEN_OUT:
        every = enumerate(itertools.product(*map(range, conv.phases)))
        return seq(*[fill(number, phases[:-1], phases[-1]) for number, phases in every])

    def rows(*phases: Expr) -> Stmt:
        number = index(0)
        for phase, extent in zip(phases, outer, strict=True):
            number = number * extent + phase
        return seq(*[fill(number * last + phase, phases, phase) for phase in range(last)])

    return nest([f"phase{i}" for i in range(len(outer))], outer, rows)
