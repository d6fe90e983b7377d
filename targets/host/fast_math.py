"""Exponential, logarithm, logistic function, hyperbolic tangent and error function as polynomials.

The C library's functions are called lane by lane; these are plain arithmetic and vectorise
(exact class "reassociating"). ``exp`` and ``log`` are minimax polynomials of a reduced argument;
``tanh`` and ``erf`` are the rational minimax approximations used by Eigen. Largest errors over
all of float32, in units of the last place (``python -m motet.benchmarks.fast_math_ulp``; results
below the smallest normal number may be flushed to 0)::

    exp 1.5    log 0.8    sigmoid 2.0    tanh 3.3    erf 5.5 (3.8 for |x| <= 1)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tvm import tirx
from tvm.ir import Call

from motet.targets.host.exprs import rewrite, walk
from motet.targets.host.fast_log import log
from motet.targets.host.loops import Expr
from motet.targets.host.polynomials import bits_of, clamped, f32, horner, i32, let, of_bits
from motet.targets.host.stages import Stage

# Arguments beyond these have a result of infinity and of 0.
_EXP_HIGHEST, _EXP_LOWEST = 89.0, -88.0
# (exp(r) - 1 - r) / r^2 on [0, ln 2]: minimax of the relative error of exp, 2.9e-9 (Remez).
_EXP = (1.9125699764117599e-3, 7.868288084864616e-3, 4.1855063289403915e-2,
        1.6663189232349396e-1, 5.000022649765015e-1)  # fmt: skip
_LOG2E, _LN2_HIGH, _LN2_LOW = 1.44269504088896341, 0.693359375, -2.12194440e-4
_ROUNDER = 12582912.0 + 127.0
_TANH_LIMIT = 8.66433975625
_TANH = (
    (1.394553628e-8, 2.102733560e-5, 3.520756727e-3, 1.340216100e-1, 1.0),
    (8.015776984e-7, 3.326951409e-4, 2.597254514e-2, 4.673548340e-1, 1.0),
)
_ERF_LIMIT = 4.0
_ERF = (
    (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
     -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02),
    (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
     -1.42647390514189e-02),
)  # fmt: skip


def _exp(x: Expr, sign: float = 1.0) -> Expr:
    """exp(sign x) = 2^n exp(r), r from 0 to ln 2.

    With n rounded down, 2^n is a number from 0 (its exponent bits below -126) to infinity (its
    exponent bits at 128), and multiplying by it is right at both ends and for NaN: no test of
    the result is needed. n is rounded by adding 1.5 2^23 + 127, whose last bits then are those
    of the exponent.
    """

    def polynomial(r: Expr) -> Expr:
        """exp(sign r)."""
        q = horner([sign**k * c for k, c in zip((4, 3, 2, 1, 0), _EXP, strict=True)], r)
        rest = q * (r * r) + r if sign > 0 else q * (r * r) - r
        return rest + f32(1.0)

    def of_parts(c: Expr, shifted: Expr, n: Expr) -> Expr:
        bits = bits_of(shifted) << i32(23)
        rest = c - n * f32(sign * _LN2_HIGH) - n * f32(sign * _LN2_LOW)
        return let("r", rest, polynomial) * of_bits(bits)

    def rounded(c: Expr) -> Expr:
        down = c * f32(sign * _LOG2E) - f32(0.5)
        return let(
            "t",
            down + f32(_ROUNDER),
            lambda t: let("n", t - f32(_ROUNDER), lambda n: of_parts(c, t, n)),
        )

    low, high = sorted((sign * _EXP_LOWEST, sign * _EXP_HIGHEST))
    return let("c", clamped(x, low, high), rounded)


def _sigmoid(x: Expr) -> Expr:
    return f32(1.0) / (f32(1.0) + _exp(x, -1.0))


def _rational(tables: tuple[Sequence[float], Sequence[float]], limit: float, x: Expr) -> Expr:
    over, under = tables
    return let(
        "c",
        clamped(x, -limit, limit),
        lambda c: let("s", c * c, lambda s: c * (horner(over, s) / horner(under, s))),
    )


_FUNCTIONS: dict[str, Callable[[Expr], Expr]] = {
    "exp": _exp,
    "log": log,
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
    if function is log and any(isinstance(e, tirx.Let) for e in walk(expr.args[0])):
        return None  # LLVM takes seconds for a logarithm of an exponential
    dtype = str(expr.ty.dtype)
    return let("x", expr.args[0].astype("float32"), function).astype(dtype)


def fast(call: Expr) -> Expr:
    """``call`` of such a function written out, where its type is one that this is for."""
    written = _replaced(call)
    return call if written is None else written


def with_fast_math(stage: Stage) -> Stage:
    """``stage`` with those functions of float16 and float32 values written out."""
    if stage.opaque:
        return stage
    return replace(stage, value=rewrite(stage.value, _replaced))
