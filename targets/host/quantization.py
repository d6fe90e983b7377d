"""``R.quantize`` and ``R.dequantize`` as ONNX defines them: halves to even, saturating.

The division is in the wider type of its operands (a float16 quotient is rounded to
float16 before it is rounded to an integer); the rest is float32, which holds integers of
16 bits and their zero points exactly. NaN becomes the smallest integer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, te, tirx
from tvm.ir.expr import GenericConst

from motet.targets.host.exprs import rewrite
from motet.targets.host.loops import Expr, index

_Call = Any
_Builder = Any
_HALF = "float16"


def _parameter(expr: Any) -> Any:
    """A constant of one value as an immediate, anything else as it is."""
    if isinstance(expr, GenericConst) and not expr.ty.shape.values:
        return tirx.const(expr.value.numpy().item(), str(expr.ty.dtype))
    return expr


def _at(parameter: Any, at: Sequence[Expr], axis: int) -> Expr:
    """The value of a scalar, a tensor of one value, or one along ``axis``."""
    if not isinstance(parameter, te.Tensor):
        return parameter
    if not parameter.shape:
        return parameter()
    one = isinstance(parameter.shape[0], tirx.IntImm) and int(parameter.shape[0]) == 1
    return parameter(index(0) if one else at[axis])


def _is_one(expr: Expr) -> bool:
    return isinstance(expr, tirx.FloatImm) and float(expr.value) == 1.0


def _quotient(x: Expr, scale: Expr) -> Expr:
    ratio = x.astype("float32")
    if not _is_one(scale):
        ratio = ratio / scale.astype("float32")
    if str(x.ty.dtype) == str(scale.ty.dtype) == _HALF:
        ratio = ratio.astype(_HALF).astype("float32")
    return ratio


def _quantized(x: Expr, scale: Expr, zero: Expr, dtype: str) -> Expr:
    low, high = (bound(dtype).astype("float32") for bound in (tirx.min_value, tirx.max_value))
    steps = tirx.round(_quotient(x, scale)) + zero.astype("float32")
    return tirx.min(tirx.max(steps, low), high).astype(dtype)


def _dequantized(x: Expr, scale: Expr, zero: Expr, dtype: str) -> Expr:
    wide = "float32" if str(x.ty.dtype).startswith("float") else "int32"
    difference = (x.astype(wide) - zero.astype(wide)).astype("float32")
    return (difference * scale.astype("float32")).astype(dtype)


def _legalization(
    function: Callable[[Expr, Expr, Expr, str], Expr],
) -> Callable[[_Builder, _Call], relax.Expr]:
    def legalize(builder: _Builder, call: _Call) -> relax.Expr:
        axis, dtype = int(call.attrs.axis), str(call.ty.dtype)

        def compute(x: te.Tensor, scale: Any, zero: Any) -> te.Tensor:
            def element(*at: Expr) -> Expr:
                return function(x(*at), _at(scale, at, axis), _at(zero, at, axis), dtype)

            return te.compute(x.shape, element, name="elements")

        name = str(call.op.name).rpartition(".")[2]
        arguments = (call.args[0], *map(_parameter, call.args[1:]))
        return builder.call_te(compute, *arguments, primfunc_name_hint=name)

    return legalize


def without_round_trips(expr: Expr) -> Expr:
    """``expr`` with floats that went through bytes and back as they were before.

    What is rounded and saturated to bytes is equal to the bytes as floats.
    """

    def replaced(e: Expr) -> Expr | None:
        if not isinstance(e, tirx.Cast) or str(e.ty.dtype) != "float32":
            return None
        inner = e.value
        if not isinstance(inner, tirx.Cast) or str(inner.ty.dtype) not in ("int8", "uint8"):
            return None
        return inner.value if _is_saturated(inner.value, str(inner.ty.dtype)) else None

    return rewrite(expr, replaced)


def _is_saturated(expr: Expr, dtype: str) -> bool:
    """Whether ``expr`` is what ``_quantized`` casts to ``dtype``."""
    if not isinstance(expr, tirx.Min) or not isinstance(expr.a, tirx.Max):
        return False
    steps = expr.a.a
    parts = [steps.a, steps.b] if isinstance(steps, tirx.Add) else [steps]
    bounds = [getattr(bound, "value", None) for bound in (expr.a.b, expr.b)]
    limits = [float(bound(dtype).value) for bound in (tirx.min_value, tirx.max_value)]
    rounded, *rest = parts
    name = str(getattr(getattr(rounded, "op", None), "name", ""))
    whole = all(float(getattr(part, "value", 0.5)).is_integer() for part in rest)
    return bounds == limits and name == "tirx.round" and whole


LEGALIZATIONS: dict[str, Callable[[_Builder, _Call], relax.Expr]] = {
    "relax.quantize": _legalization(_quantized),
    "relax.dequantize": _legalization(_dequantized),
}
