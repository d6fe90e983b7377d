"""Elementwise operators whose definition in TVM traps, loses NaN, or has no code.

- Integer division and remainder trap (SIGFPE) on a divisor of 0 and on the smallest integer
  over -1; here x / 0 and x mod 0 are 0, and the latter wraps around, as in numpy.
- ``maximum``, ``minimum``, ``relu``, ``clip`` and ``sign`` keep NaN, as in numpy and onnxruntime.
- ``not_equal`` is true of NaN, and booleans can be compared.
- ``where`` takes scalar constants as immediate values; ``sinh`` and ``cosh`` are written out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, te, tirx
from tvm.ir.expr import GenericConst

from motet.targets.host.loops import Expr, constant_of, index

_Call = Any
_Builder = Any


def _operand(expr: Any) -> Any:
    """A scalar constant as an immediate value, anything else as it is."""
    if isinstance(expr, GenericConst) and not expr.ty.shape.values:
        return tirx.const(expr.value.numpy().item(), str(expr.ty.dtype))
    return expr


def broadcast_index(shape: Sequence[Expr], at: Sequence[Expr]) -> list[Expr]:
    """Where ``at``, an element of a broadcast result, lies in a tensor of ``shape``."""
    own = list(at)[len(at) - len(shape) :]
    return [index(0) if constant_of(d) == 1 else i for d, i in zip(shape, own, strict=True)]


def _broadcast_shape(shapes: Sequence[Sequence[Expr]]) -> list[Expr]:
    """The shape of a result, which Relax has checked: of every axis the extent that is not 1."""
    rank = max(map(len, shapes), default=0)
    columns = [[s[axis - rank] for s in shapes if rank - axis <= len(s)] for axis in range(rank)]
    return [next((d for d in dims if constant_of(d) != 1), dims[0]) for dims in columns]


def elementwise(function: Callable[..., Expr]) -> Callable[[_Builder, _Call], relax.Expr]:
    """Legalisation of an operator that computes ``function`` of every (broadcast) element."""

    def legalize(builder: _Builder, call: _Call) -> relax.Expr:
        def compute(*operands: Any) -> te.Tensor:
            shape = _broadcast_shape([x.shape for x in operands if isinstance(x, te.Tensor)])

            def element(*at: Expr) -> Expr:
                return function(
                    *(
                        x(*broadcast_index(x.shape, at)) if isinstance(x, te.Tensor) else x
                        for x in operands
                    )
                )

            return te.compute(shape, element, name="elements")

        name = str(call.op.name).rpartition(".")[2]
        return builder.call_te(compute, *map(_operand, call.args), primfunc_name_hint=name)

    return legalize


def _is_float(x: Expr) -> bool:
    return "float" in str(x.ty.dtype)


def _like(value: float, x: Expr) -> Expr:
    return tirx.const(value, str(x.ty.dtype))


def _known_harmless(divisor: Expr) -> bool:
    return isinstance(divisor, tirx.IntImm) and int(divisor.value) not in (0, -1)


def _is_signed(x: Expr) -> bool:
    return str(x.ty.dtype).startswith("int")


def _safe(
    divide: Callable[[Expr, Expr], Expr], by_minus_one: Callable[[Expr], Expr]
) -> Callable[[Expr, Expr], Expr]:
    """``divide`` for floats; for integers without the two divisors that can trap."""

    def safe(a: Expr, b: Expr) -> Expr:
        if _is_float(a) or _known_harmless(b):
            return divide(a, b)
        traps = b == _like(0, b)
        if _is_signed(b):
            traps = tirx.any(traps, b == _like(-1, b))
        quotient = divide(a, tirx.Select(traps, _like(1, b), b))
        if _is_signed(b):
            quotient = tirx.Select(b == _like(-1, b), by_minus_one(a), quotient)
        return tirx.Select(b == _like(0, b), _like(0, a), quotient)

    return safe


def _negated(a: Expr) -> Expr:
    return _like(0, a) - a


def _nothing(a: Expr) -> Expr:
    return _like(0, a)


def maximum(a: Expr, b: Expr) -> Expr:
    """The larger one; NaN where either is NaN."""
    return _extreme(a, b, tirx.max, lambda x, y: x > y)


def minimum(a: Expr, b: Expr) -> Expr:
    """The smaller one; NaN where either is NaN."""
    return _extreme(a, b, tirx.min, lambda x, y: x < y)


def _extreme(
    a: Expr, b: Expr, plain: Callable[[Expr, Expr], Expr], wins: Callable[[Expr, Expr], Expr]
) -> Expr:
    if not _is_float(a):
        return plain(a, b)
    # The second operand is the answer where a comparison is false, as it is with NaN.
    for first, second in ((a, b), (b, a)):
        if isinstance(first, tirx.FloatImm) and float(first.value) == float(first.value):
            return tirx.Select(wins(first, second), first, second)
    # Compared, not asked with ``isnan``, which TVM does lane by lane.
    return tirx.Select(a <= _like(float("inf"), a), tirx.Select(wins(a, b), a, b), a)


def _equal(a: Expr, b: Expr) -> Expr:
    if str(a.ty.dtype) == "bool":  # has no comparison of its own
        a, b = a.astype("int8"), b.astype("int8")
    return a == b


def _differs(a: Expr, b: Expr) -> Expr:
    if not _is_float(a):
        return tirx.Not(_equal(a, b))
    # LLVM's "not equal" of TVM's choice is false for NaN; ``isnan`` would not be vectorised.
    yes, no = (tirx.const(value, "bool") for value in (True, False))
    return tirx.Select(a <= b, tirx.Select(b <= a, no, yes), yes)


def _relu(x: Expr) -> Expr:
    return maximum(x, _like(0, x))


def _clip(x: Expr, low: Expr, high: Expr) -> Expr:
    low, high = (tirx.const(bound.value, str(x.ty.dtype)) for bound in (low, high))
    return maximum(minimum(x, high), low)


def _sign(x: Expr) -> Expr:
    zero = _like(0, x)
    below = tirx.Select(x < zero, _like(-1, x), x) if _is_float(x) or _is_signed(x) else x
    return tirx.Select(x > zero, _like(1, x), below)


def _cosh(x: Expr) -> Expr:
    """(exp(x) + exp(-x)) / 2; the half goes into the exponents, which overflow later."""
    half = _like(0.6931471805599453, x)
    return tirx.exp(x - half) + tirx.exp(_like(0, x) - x - half)


def _sinh(x: Expr) -> Expr:
    """(exp(x) - exp(-x)) / 2; near 0, where that cancels, the Taylor series to x^11."""
    half, one, square = _like(0.6931471805599453, x), _like(1, x), x * x
    series = one
    for n in (110, 72, 42, 20, 6):
        series = one + square * series * _like(1 / n, x)
    apart = tirx.exp(x - half) - tirx.exp(_like(0, x) - x - half)
    return tirx.Select(square < one, x * series, apart)


def _full(builder: _Builder, call: _Call) -> relax.Expr:
    """Legalisation of ``R.full``; TVM's refuses to fill with an infinity or NaN."""
    dtype = str(call.ty.dtype)

    def compute(shape: Any, value: Any) -> te.Tensor:
        fill = value() if isinstance(value, te.Tensor) else value
        return te.compute(list(shape), lambda *_: fill.astype(dtype), name="full")

    shape, value = call.args
    return builder.call_te(compute, shape, _operand(value), primfunc_name_hint="full")


LEGALIZATIONS: dict[str, Callable[[_Builder, _Call], relax.Expr]] = {
    "relax.full": _full,
    "relax.where": elementwise(tirx.Select),
    "relax.equal": elementwise(_equal),
    "relax.not_equal": elementwise(_differs),
    "relax.divide": elementwise(_safe(tirx.div, _negated)),
    "relax.floor_divide": elementwise(_safe(tirx.floordiv, _negated)),
    "relax.mod": elementwise(_safe(tirx.truncmod, _nothing)),
    "relax.floor_mod": elementwise(_safe(tirx.floormod, _nothing)),
    "relax.maximum": elementwise(maximum),
    "relax.minimum": elementwise(minimum),
    "relax.nn.relu": elementwise(_relu),
    "relax.clip": elementwise(_clip),
    "relax.sign": elementwise(_sign),
    "relax.cosh": elementwise(_cosh),
    "relax.sinh": elementwise(_sinh),
}
