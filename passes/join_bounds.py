"""Joins bounds on one value into a single ``R.clip`` (exact).

A bound is ``R.clip``, ``R.nn.relu``, or ``R.maximum`` or ``R.minimum`` with one value. Where
nothing else reads what is between, two in a row are one:

    clip(clip(x, a, b), c, d) = clip(x, min(max(a, c), d), min(max(b, c), d))

So ReLU6 is one operator however it is written: a pair of Max and Min in either order, a
Clip with one bound behind a Relu, two Clips. Only floating-point values are joined, and only
where both limits are finite in the end; NaN passes through all of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, isnan

from tvm import IRModule, relax, transform

from motet.passes.graph import constant_array, map_functions, use_counts
from motet.passes.names import names_of, target_of, with_names
from motet.passes.op_kinds import op_name
from motet.passes.rewrite import Rewriter
from motet.passes.typing import with_type


@dataclass(frozen=True)
class _Bound:
    """``clip(source, low, high)``; names: of the nodes that wrote it."""

    source: relax.Expr
    low: float
    high: float
    names: tuple[str, ...]

    def then(self, outer: _Bound) -> _Bound:
        """What this and ``outer`` behind it are together."""
        low, high = (min(max(v, outer.low), outer.high) for v in (self.low, self.high))
        return _Bound(self.source, low, high, tuple(dict.fromkeys((*self.names, *outer.names))))

    @property
    def is_finite(self) -> bool:
        return isfinite(self.low) and isfinite(self.high)


def _single(expr: relax.Expr, other: relax.Expr) -> float | None:
    """The value of a constant that holds one, and does not stretch ``other``."""
    array = constant_array(expr)
    if array is None or array.size != 1 or array.ndim > int(other.ty.ndim):
        return None
    number = float(array.reshape(()))
    return None if isnan(number) else number


def _bound(call: relax.Expr) -> _Bound | None:
    """``call`` as a bound; None where it is none, or not of floating-point values."""
    name = op_name(call)
    if name not in ("relax.clip", "relax.nn.relu", "relax.maximum", "relax.minimum"):
        return None
    if not str(call.ty.dtype).startswith("float"):
        return None
    names = names_of(call)
    if name == "relax.nn.relu":
        return _Bound(call.args[0], 0.0, inf, names)
    if name == "relax.clip":
        low, high = (float(limit.value) for limit in call.args[1:])
        return _Bound(call.args[0], low, high, names) if low <= high else None
    for source, limit in (call.args, reversed(call.args)):
        number = _single(limit, source)
        if number is not None and constant_array(source) is None:
            limits = (number, inf) if name == "relax.maximum" else (-inf, number)
            return _Bound(source, *limits, names)
    return None


class _Joiner(Rewriter):
    def __init__(self, function: relax.Function) -> None:
        super().__init__()
        self.uses = use_counts(function)
        self.known: dict[relax.Var, _Bound] = {}

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        bound = _bound(value)
        if bound is None:
            return value
        before = self.known.get(bound.source) if isinstance(bound.source, relax.Var) else None
        if before is None or self.uses[bound.source] != 1:
            self.known[variable] = bound
            return value
        joined = before.then(bound)
        self.known[variable] = joined
        if not joined.is_finite:
            return value
        call = relax.op.clip(joined.source, joined.low, joined.high)
        return with_names(with_type(call, value.ty), joined.names, target_of(value))


@transform.module_pass(opt_level=0, name="join_bounds")
def join_bounds(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply to every function of ``mod``."""
    return map_functions(mod, lambda function: _Joiner(function).function(function))
