"""Cutting an axis where the branches of a value change sides.

``if_then_else(3 <= i && i < 8, x[i - 3], 0)`` over ``i < 9`` becomes three pieces without a
branch: ``0`` up to 3, ``x[i - 3]`` up to 8, and ``0``. Vectors cannot branch lane by lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tvm import tirx
from tvm.ir import Call
from tvm.ir.expr import Var

from motet.targets.host.exprs import is_axis, rewrite, walk
from motet.targets.host.loops import Expr, constant_of, simplify
from motet.targets.host.stages import Axis

_MOST_PIECES = 9
_COMPARISONS = (tirx.LT, tirx.LE, tirx.GT, tirx.GE)


def _conditions(value: Expr) -> list[Expr]:
    return [
        e.args[0] for e in walk(value)
        if isinstance(e, Call) and str(e.op.name).endswith("if_then_else")
    ]  # fmt: skip


def branches_on(value: Expr, axis: Var) -> bool:
    """Whether some branch in ``value`` depends on ``axis``."""
    return any(is_axis(e, axis) for c in _conditions(value) for e in walk(c))


def _change(term: Expr, axis: Var) -> int | None:
    """The first value of ``axis`` for which a comparison is not what it was before."""
    if not isinstance(term, _COMPARISONS):
        return None
    if is_axis(term.a, axis):
        bound = constant_of(term.b) if isinstance(term.b, tirx.IntImm) else None
        return None if bound is None else bound + isinstance(term, tirx.LE | tirx.GT)
    if is_axis(term.b, axis):
        bound = constant_of(term.a) if isinstance(term.a, tirx.IntImm) else None
        return None if bound is None else bound + isinstance(term, tirx.LT | tirx.GE)
    return None


def _decided(value: Expr, axis: Var, place: int) -> Expr:
    """``value`` with the comparisons of ``axis`` as they are at ``place``."""

    def term(e: Expr) -> Expr | None:
        if _change(e, axis) is None:
            return None
        at = tirx.IntImm("int64", place)
        return simplify(type(e)(*(at if is_axis(side, axis) else side for side in (e.a, e.b))))

    def branch(e: Expr) -> Expr | None:
        if not isinstance(e, Call) or not str(e.op.name).endswith("if_then_else"):
            return None
        condition = simplify(rewrite(e.args[0], term))
        known = constant_of(condition)
        if known is not None:
            return e.args[1] if known else e.args[2]
        return tirx.if_then_else(condition, e.args[1], e.args[2])

    return rewrite(value, branch)


def segments(value: Expr, group: Sequence[Axis]) -> list[tuple[int, int, Expr]]:
    """``(first, end, value)`` of pieces in which no comparison of the axis changes.

    One piece where the axis is several fused ones, is of unknown extent, or would be cut too
    often.
    """
    extent = constant_of(group[-1].extent)
    axis = group[-1].var
    if len(group) > 1 or extent is None:
        return []
    terms = [t for c in _conditions(value) for t in walk(c)]
    changes = {c for t in terms if (c := _change(t, axis)) is not None and 0 < c < extent}
    cuts = [0, *sorted(changes), extent]
    if not 2 < len(cuts) <= _MOST_PIECES + 1:
        return [(0, extent, value)]
    return [(a, b, _decided(value, axis, a)) for a, b in pairwise(cuts)]
