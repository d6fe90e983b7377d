"""Operators on the bits of elements, and for element types that no kernel runs in.

All are elementwise. The narrow types and their carriers are in ``runtime.element_types``.

- ``motet.reinterpret``: the same bits as another dtype of the same width;
- ``motet.round_to``: float32 to the nearest values that a narrow float type has, in float32;
- ``motet.decode``: the bits of a narrow type to its carrier;
- ``motet.encode``: values of a narrow type in their carrier to its bits.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax
from tvm.ir import Op

from motet.runtime.element_types import NARROW

from .registering import register

REINTERPRET, ROUND_TO = "motet.reinterpret", "motet.round_to"
DECODE, ENCODE = "motet.decode", "motet.encode"
MODES = ("even", "up", "down", "nearest")
"""How ``round_to`` rounds: to nearest, halves to even; the others are of float8_e8m0fnu alone:
away from zero, towards zero, and to nearest with halves up."""


def _call(name: str, x: relax.Expr, **attributes: Any) -> relax.Call:
    return relax.Call(Op.get(name), [x], tvm.ir.make_node("ir.DictAttrs", **attributes))


def reinterpret(x: relax.Expr, dtype: str) -> relax.Call:
    """The bits of ``x`` as ``dtype``, which is as wide."""
    return _call(REINTERPRET, x, dtype=dtype)


def round_to(x: relax.Expr, narrow: str, saturate: bool = True, mode: str = "even") -> relax.Call:
    """float32 ``x`` on the values of the float type ``narrow``.

    saturate: what is beyond the largest value, infinities too, becomes it; otherwise
    infinite, or NaN where the type has no infinity.
    """
    assert NARROW[narrow].is_float, "integers are not rounded"
    assert mode in MODES
    return _call(ROUND_TO, x, narrow=narrow, saturate=int(saturate), mode=mode)


def decode(bits: relax.Expr, narrow: str) -> relax.Call:
    """Bits of ``narrow`` (uint8 or uint16; higher bits than it has count for nothing)."""
    return _call(DECODE, bits, narrow=narrow)


def encode(x: relax.Expr, narrow: str) -> relax.Call:
    """The bits of ``x``, which holds values of ``narrow`` only."""
    return _call(ENCODE, x, narrow=narrow)


def _dtype_of(call: relax.Call) -> str:
    name = str(call.op.name)
    if name == REINTERPRET:
        return str(call.attrs["dtype"])
    narrow = NARROW[str(call.attrs["narrow"])]
    return narrow.stored if name == ENCODE else narrow.carrier


def _infer(call: relax.Call, _builder: relax.BlockBuilder) -> Any:
    ty, dtype = call.args[0].ty, _dtype_of(call)
    if isinstance(ty.shape, relax.ShapeExpr):
        return relax.TensorType(ty.shape, dtype)
    return relax.TensorType(dtype=dtype, ndim=ty.ndim)


register(REINTERPRET, "the same bits as another dtype", _infer)
register(ROUND_TO, "rounded to the values of a narrow float type", _infer)
register(DECODE, "bits of a narrow type to its carrier", _infer)
register(ENCODE, "values of a narrow type to its bits", _infer)
