"""Float32 expressions that elementary functions are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from motet.targets.host.loops import Expr


def f32(value: float) -> Expr:
    """A float32 constant."""
    return tirx.const(value, "float32")


def let(name: str, value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    """``body`` of a variable that is ``value``, which is computed once."""
    var = tirx.Var(name, value.ty)
    return tirx.Let(var, value, body(var))


def horner(coefficients: Sequence[float], x: Expr) -> Expr:
    """The polynomial in ``x`` with these coefficients, that of the highest power first."""
    value = f32(coefficients[0])
    for c in coefficients[1:]:
        value = value * x + f32(c)
    return value


def clamped(x: Expr, low: float, high: float) -> Expr:
    """``x`` between two bounds; NaN, which no comparison is true of, stays.

    Two instructions: of a comparison with NaN vmaxps and vminps give the second operand. A test
    for NaN of its own would keep TVM from vectorising the expression.
    """
    above = tirx.Select(f32(low) > x, f32(low), x)
    return let("a", above, lambda a: tirx.Select(f32(high) < a, f32(high), a))


def bits_of(x: Expr) -> Expr:
    """A float32's bits as int32."""
    return tirx.reinterpret("int32", x)


def of_bits(bits: Expr) -> Expr:
    """The float32 that has the bits of an int32."""
    return tirx.reinterpret("float32", bits)


def i32(value: int) -> Expr:
    """An int32 constant."""
    return tirx.const(value, "int32")
