"""The natural logarithm as a polynomial.

x = 2^e m with m from sqrt(1/2) to sqrt(2), and log(x) = e ln 2 + log1p(m - 1) with
log1p(f) = f - f^2 / 2 + f^3 P(f), P of degree 7. ln 2 is added in two parts (Cody and Waite).
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from motet.targets.host.loops import Expr
from motet.targets.host.polynomials import bits_of, f32, horner, i32, let, of_bits

# Minimax of the relative error of the logarithm: 6e-9 (Remez).
_P = (-7.634615539188691e-2, 1.2761599890979922e-1, -1.3160143263409077e-1,
      1.420175161874438e-1, -1.6623361334736378e-1, 2.0001227376275274e-1,
      -2.5000820907543325e-1, 3.3333331697248497e-1)  # fmt: skip
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_SQRT_HALF_BITS, _NAN_BITS = 0x3F3504F3, 0x7FC00000
_TINY, _SCALE_BITS = 1.17549435e-38, 23
_INFINITY = float("inf")


def _sum(f: Expr, e: Expr) -> Expr:
    """log1p(f) + e ln 2."""

    def parts(square: Expr) -> Expr:
        tail = f * square * horner(_P, f) + e * f32(_LN2_LOW) - f32(0.5) * square
        return f + tail + e * f32(_LN2_HIGH)

    return let("s", f * f, parts)


def _split(x: Expr, body: Callable[[Expr, Expr], Expr]) -> Expr:
    """``body`` of m's bits and of e shifted to where the exponent is, x normal."""

    def parts(bits: Expr) -> Expr:
        exponent = (bits - i32(_SQRT_HALF_BITS)) & i32(-(1 << 23))
        return let("k", exponent, lambda k: body(bits - k, k))

    return let("b", bits_of(x), parts)


def _number(exponent: Expr) -> Expr:
    return (exponent >> i32(23)).astype("float32")


def _checked(x: Expr, result: Expr) -> Expr:
    """``result`` where ``x`` is between 0 and infinity, else what belongs there."""
    outside = tirx.Select(x < f32(0.0), of_bits(i32(_NAN_BITS)), f32(-_INFINITY))
    result = tirx.Select(x > f32(0.0), result, outside)
    return tirx.Select(x < f32(_INFINITY), result, x)  # infinity, and NaN as it came


def log(x: Expr) -> Expr:
    """The logarithm of a float32 ``x``, also of one below the smallest normal number."""

    def of_scaled(y: Expr, bias: Expr) -> Expr:
        def of_parts(mantissa: Expr, exponent: Expr) -> Expr:
            e = _number(exponent) - bias
            return let(
                "e", e, lambda e: let("f", of_bits(mantissa) - f32(1.0), lambda f: _sum(f, e))
            )

        return _split(y, of_parts)

    small = x < f32(_TINY)
    scaled = tirx.Select(small, x * f32(2.0**_SCALE_BITS), x)
    bias = tirx.Select(small, f32(_SCALE_BITS), f32(0.0))
    return _checked(x, let("y", scaled, lambda y: of_scaled(y, bias)))
