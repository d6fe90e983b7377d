"""Narrow element types in terms of bits: rounding, decoding and encoding, exactly.

A float32 is rounded on its bits where the narrow type has all of its mantissa, and by a
power of two and ``nearbyint`` below the type's smallest normal number. Layouts are those of
ml_dtypes: IEEE 754 for bfloat16 and e5m2; ``fn`` has no infinity; ``fnuz`` neither that nor
-0, and one NaN; e8m0 is a power of two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import relax, tirx

from motet.runtime.element_types import NARROW
from motet.targets.host.elementwise import elementwise
from motet.targets.host.loops import Expr
from motet.targets.operators import narrow as operators

_SIGN, _INFINITY, _NAN = 0x80000000, 0x7F800000, 0x7FC00000


@dataclass(frozen=True)
class Layout:
    """A float type of sign, exponent and mantissa.

    exponent, mantissa: their bits; bias: of the exponent; special: ``ieee``, ``fn``,
    ``fnuz``, or ``finite`` for neither infinity nor NaN.
    """

    exponent: int
    mantissa: int
    bias: int
    special: str

    @property
    def smallest(self) -> int:
        """The exponent of the smallest normal number."""
        return 1 - self.bias

    @property
    def codes(self) -> int:
        """Bit patterns without the sign."""
        return 1 << (self.exponent + self.mantissa)

    @property
    def largest(self) -> int:
        """The largest finite value, as the bits of a float32."""
        taken = {"ieee": 1 << self.mantissa, "fn": 1, "fnuz": 0, "finite": 0}[self.special]
        code = self.codes - taken - 1
        exponent, mantissa = code >> self.mantissa, code & ((1 << self.mantissa) - 1)
        return ((exponent - self.bias + 127) << 23) | (mantissa << (23 - self.mantissa))


_LAYOUTS = {
    "bfloat16": Layout(8, 7, 127, "ieee"),
    "float8_e4m3fn": Layout(4, 3, 7, "fn"),
    "float8_e4m3fnuz": Layout(4, 3, 8, "fnuz"),
    "float8_e5m2": Layout(5, 2, 15, "ieee"),
    "float8_e5m2fnuz": Layout(5, 2, 16, "fnuz"),
    "float6_e2m3fn": Layout(2, 3, 1, "finite"),
    "float6_e3m2fn": Layout(3, 2, 3, "finite"),
    "float4_e2m1fn": Layout(2, 1, 1, "finite"),
}


def _u(value: int) -> Expr:
    return tirx.const(value, "uint32")


def _f(value: float) -> Expr:
    return tirx.const(value, "float32")


def _bits(x: Expr) -> Expr:
    return tirx.reinterpret("uint32", x)


def _float(bits: Expr) -> Expr:
    return tirx.reinterpret("float32", bits)


def _let(name: str, value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    var = tirx.Var(name, value.ty)
    return tirx.Let(var, value, body(var))


def _to_nearest(a: Expr, dropped: int) -> Expr:
    """``a`` without its ``dropped`` low bits, rounded half to even."""
    odd = (a >> _u(dropped)) & _u(1)
    return (a + _u((1 << (dropped - 1)) - 1) + odd) & _u(0xFFFFFFFF ^ ((1 << dropped) - 1))


def _rounded(layout: Layout, saturate: bool) -> Callable[[Expr], Expr]:
    """float32 to the values of ``layout``, halves to even."""

    def magnitude(a: Expr) -> Expr:
        normal = _to_nearest(a, 23 - layout.mantissa)
        if layout.smallest == -126:  # float32 has the same subnormal range
            return normal
        step = layout.mantissa - layout.smallest
        below = tirx.nearbyint(_float(a) * _f(2.0**step)) * _f(2.0**-step)
        return tirx.Select(a < _u((layout.smallest + 127) << 23), _bits(below), normal)

    def placed(sign: Expr, a: Expr, m: Expr) -> Expr:
        beyond = layout.largest if saturate or layout.special == "finite" else _NAN
        if not saturate and layout.special == "ieee":
            beyond = _INFINITY
        result = tirx.Select(m > _u(layout.largest), _u(beyond), m)
        # ml_dtypes makes a zero of the other sign of a NaN that the type has not.
        nan = _SIGN if layout.special == "finite" else _NAN
        result = tirx.Select(a > _u(_INFINITY), _u(nan), result)
        if layout.special == "fnuz":
            return _float(tirx.Select(result == _u(0), result, sign | result))
        return _float(sign ^ result)

    def rounded(x: Expr) -> Expr:
        def of_bits(u: Expr) -> Expr:
            return _let(
                "a",
                u & _u(0x7FFFFFFF),
                lambda a: _let("m", magnitude(a), lambda m: placed(u & _u(_SIGN), a, m)),
            )

        return _let("u", _bits(x), of_bits)

    return rounded


def _rounded_bfloat16(x: Expr) -> Expr:
    """float32 to bfloat16, the upper half of its bits: a carry makes overflow an infinity."""

    def rounded(u: Expr) -> Expr:
        nan = (u & _u(0x7FFFFFFF)) > _u(_INFINITY)
        return _float(tirx.Select(nan, (u & _u(_SIGN)) | _u(_NAN), _to_nearest(u, 16)))

    return _let("u", _bits(x), rounded)


def _rounded_power(saturate: bool, mode: str) -> Callable[[Expr], Expr]:
    """float32 to powers of two, whatever the sign; infinities become NaN, as in onnx."""

    def power(u: Expr) -> Expr:
        exponent, fraction = (u >> _u(23)) & _u(0xFF), u & _u(0x7FFFFF)
        if mode == "down":
            up: Expr = fraction < _u(0)
        elif mode == "up":
            up = fraction > _u(0)
        else:  # a half goes up, but for that between 0 and the smallest normal number
            half = _u(0x400000)
            up = tirx.Select(exponent > _u(0), fraction >= half, fraction > half)
        raised = tirx.Select(up, exponent + _u(1), exponent)
        if saturate:
            raised = tirx.Select(exponent == _u(0xFE), exponent, raised)
        special = tirx.any(exponent == _u(0xFF), raised == _u(0xFF))
        plain = tirx.Select(raised == _u(0), _u(0x400000), raised << _u(23))
        return _float(tirx.Select(special, _u(_NAN), plain))

    return lambda x: _let("u", _bits(x), power)


def _decoded(layout: Layout) -> Callable[[Expr], Expr]:
    """Bits of ``layout`` to float32."""
    width, mantissa = layout.exponent + layout.mantissa, layout.mantissa

    def value(u: Expr) -> Expr:
        sign, code = (u >> _u(width)) & _u(1), u & _u(layout.codes - 1)
        normal = (code << _u(23 - mantissa)) + _u((127 - layout.bias) << 23)
        below = _bits(code.astype("float32") * _f(2.0 ** (layout.smallest - mantissa)))
        result = tirx.Select(code < _u(1 << mantissa), below, normal)
        if layout.special == "ieee":
            first = layout.codes - (1 << mantissa)
            special = tirx.Select(code == _u(first), _u(_INFINITY), _u(_NAN))
            result = tirx.Select(code < _u(first), result, special)
        elif layout.special == "fn":
            result = tirx.Select(code == _u(layout.codes - 1), _u(_NAN), result)
        elif layout.special == "fnuz":
            result = tirx.Select(u == _u(layout.codes), _u(_NAN), result)
        return _float(result | (sign << _u(31)))

    return lambda x: _let("u", x.astype("uint32") & _u(2 * layout.codes - 1), value)


def _encoded(layout: Layout) -> Callable[[Expr], Expr]:
    """float32 values of ``layout`` to its bits, as uint32."""
    width, mantissa = layout.exponent + layout.mantissa, layout.mantissa

    def code(u: Expr) -> Expr:
        a = u & _u(0x7FFFFFFF)
        normal = (a - _u((127 - layout.bias) << 23)) >> _u(23 - mantissa)
        below = (_float(a) * _f(2.0 ** (mantissa - layout.smallest))).astype("int32")
        result = tirx.Select(a < _u((layout.smallest + 127) << 23), below.astype("uint32"), normal)
        nan = layout.codes - (1 << (mantissa - 1) if layout.special == "ieee" else 1)
        if layout.special == "ieee":
            infinite = _u(layout.codes - (1 << mantissa))
            result = tirx.Select(a == _u(_INFINITY), infinite, result)
        result = tirx.Select(a > _u(_INFINITY), _u(nan), result)
        signed = result | ((u >> _u(31)) << _u(width))
        if layout.special == "fnuz":
            return tirx.Select(a > _u(_INFINITY), _u(layout.codes), signed)
        return signed

    return lambda x: _let("u", _bits(x), code)


def _decoded_bfloat16(x: Expr) -> Expr:
    return _float(x.astype("uint32") << _u(16))


def _encoded_bfloat16(x: Expr) -> Expr:
    return _bits(x) >> _u(16)


def _decoded_power(x: Expr) -> Expr:
    def value(u: Expr) -> Expr:
        least = tirx.Select(u == _u(0), _u(0x400000), u << _u(23))
        return _float(tirx.Select(u == _u(0xFF), _u(_NAN), least))

    return _let("u", x.astype("uint32"), value)


def _encoded_power(x: Expr) -> Expr:
    return (_bits(x) >> _u(23)) & _u(0xFF)


def _decoded_integer(name: str) -> Callable[[Expr], Expr]:
    bits, carrier = NARROW[name].bits, NARROW[name].carrier

    def value(x: Expr) -> Expr:
        if carrier == "uint8":
            return x & tirx.const((1 << bits) - 1, "uint8")
        unused = tirx.const(32 - bits, "int32")
        return ((x.astype("int32") << unused) >> unused).astype("int8")

    return value


def _decode(name: str) -> Callable[[Expr], Expr]:
    if not NARROW[name].is_float:
        return _decoded_integer(name)
    if name == "bfloat16":
        return _decoded_bfloat16
    return _decoded_power if name == "float8_e8m0fnu" else _decoded(_LAYOUTS[name])


def _encode(name: str) -> Callable[[Expr], Expr]:
    narrow = NARROW[name]
    if not narrow.is_float:
        mask = tirx.const((1 << narrow.bits) - 1, "uint8")
        return lambda x: x.astype("uint8") & mask
    bits = {"bfloat16": _encoded_bfloat16, "float8_e8m0fnu": _encoded_power}.get(name)
    code = bits or _encoded(_LAYOUTS[name])
    return lambda x: code(x).astype(narrow.stored)


def _round_to(attrs: Any) -> Callable[[Expr], Expr]:
    name, saturate = str(attrs["narrow"]), bool(int(attrs["saturate"]))
    if name == "float8_e8m0fnu":
        return _rounded_power(saturate, str(attrs["mode"]))
    if name == "bfloat16" and not saturate:
        return _rounded_bfloat16
    return _rounded(_LAYOUTS[name], saturate)


def _reinterpret(attrs: Any) -> Callable[[Expr], Expr]:
    dtype = str(attrs["dtype"])

    def value(x: Expr) -> Expr:
        if str(x.ty.dtype) == "bool":
            return x.astype("uint8").astype(dtype)
        return x != tirx.const(0, str(x.ty.dtype)) if dtype == "bool" else _same_bits(x)

    def _same_bits(x: Expr) -> Expr:
        return tirx.reinterpret(dtype, x)

    return value


def _legalize(function: Callable[[Any], Callable[[Expr], Expr]]) -> Callable[[Any, Any], Any]:
    """Legalisation by the function that a call's attributes select."""

    def legalize(builder: Any, call: Any) -> relax.Expr:
        return elementwise(function(call.attrs))(builder, call)

    return legalize


LEGALIZATIONS: dict[str, Callable[[Any, Any], relax.Expr]] = {
    operators.REINTERPRET: _legalize(_reinterpret),
    operators.ROUND_TO: _legalize(_round_to),
    operators.DECODE: _legalize(lambda attrs: _decode(str(attrs["narrow"]))),
    operators.ENCODE: _legalize(lambda attrs: _encode(str(attrs["narrow"]))),
}
