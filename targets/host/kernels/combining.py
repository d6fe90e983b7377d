"""Reductions as ``output = combine(output, element)``: what they combine with, and what; and
the lanes of a vector combined into one.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from motet.targets.host.exprs import children, loads
from motet.targets.host.loops import VECTORIZED, Buffer, Expr, Stmt, load, loop, store
from motet.targets.host.stages import Stage

Combine = Callable[[Expr, Expr], Expr]
_COMBINERS = (tirx.Add, tirx.Mul, tirx.Max, tirx.Min, tirx.And, tirx.Or)


def combination_of(stage: Stage) -> tuple[Combine, Expr] | None:
    """``(combine, element)`` of a stage; None where its value has another form."""
    value = stage.value
    if not isinstance(value, _COMBINERS):
        return None
    own = [hasattr(p, "source") and p.source.same_as(stage.output) for p in children(value)]
    if sum(own) != 1:
        return None
    element = value.b if own[0] else value.a
    if any(x.source.same_as(stage.output) for x in loads(element)):
        return None
    return (lambda a, b: type(value)(a, b)), element


def folded(acc: Buffer, width: int, combine: Combine, least: int = 1) -> list[Stmt]:
    """Combines ``width`` accumulators, a power of two, into the first ``least``: half onto half."""

    def fold(half: int) -> Stmt:
        def lane(v: Expr) -> Stmt:
            return store(acc, combine(load(acc, v), load(acc, v + half)), v)

        return loop("lane", half, lane, VECTORIZED)

    halves = (width >> k for k in range(1, width.bit_length()))
    return [fold(half) for half in halves if half >= least]
