"""Softmax and its logarithm, with an exponential for values that are never positive.

``softmax(x) = e / sum(e)`` with ``e = exp(x - max(x))``: the exponent is at most 0, so the
exponential needs no guard against overflow. It is 2^n p(r) with n = round(x / ln 2) and
r = x - n ln 2, p Cephes' polynomial (S. Moshier, ``expf``); n is rounded by adding 1.5 2^23,
which leaves it in the lowest bits, from where a shift makes it the exponent. Relative error
below 2 units in the last place; results below 2^-126.5 are 0, and NaN stays NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tvm import relax, te, tirx
from tvm.ir import Call

from motet.targets.host.defaults import by_tvm
from motet.targets.host.exprs import rewrite
from motet.targets.host.loops import Expr
from motet.targets.host.stages import Stage

_NEVER_POSITIVE = "motet.exp_of_nonpositive"
_LOWEST = -88.0
_ROUND = 12582912.0
_LOG2E, _LN2_HIGH, _LN2_LOW = 1.44269504088896341, 0.693359375, -2.12194440e-4
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
        5.0000001201e-1, 1.0, 1.0)  # fmt: skip


def _f(value: float) -> Expr:
    return tirx.const(value, "float32")


def _let(name: str, value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    var = tirx.Var(name, value.ty)
    return tirx.Let(var, value, body(var))


def exp_of_nonpositive(x: Expr) -> Expr:
    """``exp(x)`` of a float32 that is at most 0, or NaN."""

    def polynomial(r: Expr) -> Expr:
        value = _f(_EXP[0])
        for c in _EXP[1:]:
            value = value * r + _f(c)
        return value

    def of_parts(c: Expr, shifted: Expr) -> Expr:
        n = shifted - _f(_ROUND)
        bits = tirx.reinterpret("int32", shifted) << tirx.const(23, "int32")
        power = tirx.reinterpret("float32", bits + tirx.const(127 << 23, "int32"))
        rest = _let("n", n, lambda n: c - n * _f(_LN2_HIGH) - n * _f(_LN2_LOW))
        return _let("r", rest, polynomial) * power

    def of_clamped(c: Expr) -> Expr:
        return _let("s", c * _f(_LOG2E) + _f(_ROUND), lambda s: of_parts(c, s))

    # Of a comparison with NaN the second operand is the result: NaN stays.
    clamped = _let("x", x, lambda x: tirx.Select(_f(_LOWEST) > x, _f(_LOWEST), x))
    return _let("c", clamped, of_clamped)


def with_exp_of_nonpositive(stage: Stage) -> Stage:
    """``stage`` with its exponentials written out, where it says they are never positive."""
    if not stage.attrs.get(_NEVER_POSITIVE):
        return stage

    def replaced(e: Expr) -> Expr | None:
        if isinstance(e, Call) and str(e.op.name).rpartition(".")[2] == "exp":
            return exp_of_nonpositive(e.args[0])
        return None

    return replace(stage, value=rewrite(stage.value, replaced))


def _stages(x: te.Tensor, axis: int, logarithm: bool) -> te.Tensor:
    shape = list(x.shape)
    rest = shape[:axis] + shape[axis + 1 :]
    never_positive = {_NEVER_POSITIVE: 1}
    k, s = (te.reduce_axis((0, shape[axis]), name) for name in ("k", "s"))

    def along(at: tuple[Expr, ...], i: Expr) -> list[Expr]:
        return [*at[:axis], i, *at[axis:]]

    def outside(at: tuple[Expr, ...]) -> list[Expr]:
        return [*at[:axis], *at[axis + 1 :]]

    largest = te.compute(rest, lambda *at: te.max(x(*along(at, k)), axis=k), name="largest")

    def exponential(*at: Expr) -> Expr:
        return tirx.exp(x(*at) - largest(*outside(at)))

    if logarithm:
        total = te.compute(
            rest, lambda *at: te.sum(exponential(*along(at, s)), axis=s), name="total",
            attrs=never_positive,
        )  # fmt: skip
        log = te.compute(rest, lambda *at: tirx.log(total(*at)), name="log_total")
        return te.compute(
            shape, lambda *at: x(*at) - largest(*outside(at)) - log(*outside(at)), name="result"
        )
    powers = te.compute(shape, exponential, name="powers", attrs=never_positive)
    total = te.compute(rest, lambda *at: te.sum(powers(*along(at, s)), axis=s), name="total")
    return te.compute(shape, lambda *at: powers(*at) / total(*outside(at)), name="result")


def _legalize(logarithm: bool) -> Callable[[Any, Any], relax.Expr]:
    def legalize(builder: Any, call: Any) -> relax.Expr:
        x = call.args[0]
        if str(x.ty.dtype) != "float32" or not x.ty.shape.values:
            return by_tvm(builder, call)
        axis = int(call.attrs.axis) % len(x.ty.shape.values)
        name = "log_softmax" if logarithm else "softmax"
        return builder.call_te(_stages, x, axis, logarithm, primfunc_name_hint=name)

    return legalize


LEGALIZATIONS: dict[str, Callable[[Any, Any], relax.Expr]] = {
    "relax.nn.softmax": _legalize(logarithm=False),
    "relax.nn.log_softmax": _legalize(logarithm=True),
}
