"""Exponential, logistic function, hyperbolic tangent and error function as polynomials.

The C library's functions are called lane by lane; these are plain arithmetic and vectorise
(exact class "reassociating"). ``exp`` is Cephes' ``expf`` (S. Moshier) in pairs of terms, with
infinities, NaN and underflow to zero kept; ``tanh`` and ``erf`` are the rational minimax
approximations used by Eigen. Largest errors over all of float32, in units of the last place
(``python -m motet.benchmarks.fast_math_ulp``; results below the smallest normal number may be
flushed to 0)::

    exp 1.0 (0.9 where the result is normal)    erf  5.5 (3.8 for |x| <= 1)
    sigmoid 2.3                                 tanh 4.5 (3.8 for |x| <= 1)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tvm import tirx
from tvm.ir import Call

from motet.targets.host.exprs import rewrite
from motet.targets.host.loops import Expr
from motet.targets.host.stages import Stage

_LARGEST, _SMALLEST = 88.72283, -87.33654
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
        5.0000001201e-1)  # fmt: skip
_ROUNDER = 12582912.0
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_TANH_LIMIT = 7.90531110763549805
_TANH = (
    (-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08,
     1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03),
    (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03),
)  # fmt: skip
_ERF_LIMIT = 4.0
_ERF = (
    (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
     -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02),
    (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
     -1.42647390514189e-02),
)  # fmt: skip


def _f(value: float) -> Expr:
    return tirx.const(value, "float32")


def _kept_nan(x: Expr, result: Expr) -> Expr:
    """``result``, or ``x`` where that is NaN.

    A comparison that is false of NaN: TVM calls ``isnan`` lane by lane, and folds ``x == x``.
    """
    return tirx.Select(x <= tirx.const(float("inf"), x.ty.dtype), result, x)


def _horner(coefficients: Sequence[float], x: Expr) -> Expr:
    value = _f(coefficients[0])
    for c in coefficients[1:]:
        value = value * x + _f(c)
    return value


def _estrin(coefficients: Sequence[float], x: Expr, square: Expr) -> Expr:
    """A polynomial in pairs (Estrin 1960): half as long a chain of operations as Horner's."""
    pairs = zip(coefficients[::2], coefficients[1::2], strict=True)
    value, *rest = [_f(high) * x + _f(low) for high, low in pairs]
    for pair in rest:
        value = value * square + pair
    return value


def _let(name: str, value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    var = tirx.Var(name, value.ty)
    return tirx.Let(var, value, body(var))


def _clamped(x: Expr, low: float, high: float) -> Expr:
    """``x`` between two bounds; NaN, which no comparison is true of, stays.

    A test for NaN of its own would keep TVM from vectorising the expression.
    """
    above = tirx.Select(x < _f(low), _f(low), x)
    return tirx.Select(x > _f(high), _f(high), above)


def _exp(x: Expr) -> Expr:
    """2^n exp(r): n rounded by adding 1.5 * 2^23, whose last bits then are n's own."""

    def of_parts(c: Expr, shifted: Expr, n: Expr) -> Expr:
        def scaled(r: Expr) -> Expr:
            power = _let("q", r * r, lambda q: _estrin(_EXP, r, q) * q + r) + _f(1.0)
            # Added to the exponent bits: 2^128 has no representation, a result below it has.
            exponent = tirx.reinterpret("int32", shifted) << tirx.const(23, "int32")
            result = tirx.reinterpret("float32", tirx.reinterpret("int32", power) + exponent)
            result = tirx.Select(x > _f(_LARGEST), _f(float("inf")), result)
            result = tirx.Select(x < _f(_SMALLEST), _f(0.0), result)
            return _kept_nan(x, result)  # its bits may be any

        return _let("r", c - n * _f(_LN2_HIGH) - n * _f(_LN2_LOW), scaled)

    def rounded(c: Expr) -> Expr:
        return _let(
            "t",
            c * _f(1.44269504088896341) + _f(_ROUNDER),
            lambda t: _let("n", t - _f(_ROUNDER), lambda n: of_parts(c, t, n)),
        )

    return _let("c", _clamped(x, _SMALLEST, _LARGEST), rounded)


def _sigmoid(x: Expr) -> Expr:
    return _f(1.0) / (_f(1.0) + _let("m", _f(0.0) - x, _exp))


def _rational(tables: tuple[Sequence[float], Sequence[float]], limit: float, x: Expr) -> Expr:
    over, under = tables
    return _let(
        "c",
        _clamped(x, -limit, limit),
        lambda c: _let("s", c * c, lambda s: c * (_horner(over, s) / _horner(under, s))),
    )


_FUNCTIONS: dict[str, Callable[[Expr], Expr]] = {
    "exp": _exp,
    "sigmoid": _sigmoid,
    "tanh": lambda x: _rational(_TANH, _TANH_LIMIT, x),
    "erf": lambda x: _rational(_ERF, _ERF_LIMIT, x),
}


def _replaced(expr: Expr) -> Expr | None:
    if not isinstance(expr, Call) or str(expr.ty.dtype) not in ("float32", "float16"):
        return None
    function = _FUNCTIONS.get(str(expr.op.name).rpartition(".")[2])
    if function is None:
        return None
    dtype = str(expr.ty.dtype)
    return _let("x", expr.args[0].astype("float32"), function).astype(dtype)


def fast(call: Expr) -> Expr:
    """``call`` of such a function written out, where its type is one that this is for."""
    written = _replaced(call)
    return call if written is None else written


def with_fast_math(stage: Stage) -> Stage:
    """``stage`` with those functions of float16 and float32 values written out."""
    if stage.opaque:
        return stage
    return replace(stage, value=rewrite(stage.value, _replaced))
