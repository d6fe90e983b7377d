"""The arithmetic of quantised tensors, in the one form that later passes recognise.

A quantised tensor is integers ``q`` with ``real = (q - zero_point) * scale``. Products are
summed in int32, exactly, and leave through one call chain::

    centred     R.subtract(R.astype(q, "int16"), zero_point)   ; q itself where that is 0
    product     R.nn.convNd / R.matmul(centred, centred weights, out_dtype="int32")
    bias        R.add(product, bias)                           ; int32
    requantised R.quantize(R.multiply(R.astype(product, "float32"), scale), 1.0, zero_point)

Constant weights are centred at import and kept in the fewest bits that hold them (int8,
else int16). ``scale`` is ``x_scale * w_scale / y_scale``, one value or one a channel,
rounded to float32 as in onnxruntime. ``R.quantize`` rounds half to even and saturates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import GenericConst

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import constant
from motet.runtime.element_types import NARROW

_BY_RELAX = frozenset(("int8", "uint8", "int16", "uint16"))
"""Element types that ``R.quantize`` makes; it reads int32 too."""


@dataclass(frozen=True)
class Element:
    """An integer element type: the type that carries it, and the values it has."""

    dtype: str
    low: int
    high: int


def element_of(dtype: str) -> Element:
    """The element type of a NumPy integer type, or of one of 4 or 2 bits."""
    if dtype in NARROW:
        narrow = NARROW[dtype]
        signed = narrow.carrier == "int8"
        low = -(1 << (narrow.bits - 1)) if signed else 0
        return Element(narrow.carrier, low, low + (1 << narrow.bits) - 1)
    info = np.iinfo(dtype)
    return Element(dtype, int(info.min), int(info.max))


def is_scalar(node: Node, expr: relax.Expr) -> bool:
    """Whether ``expr`` has one element, whatever its rank."""
    return all(isinstance(dim, int) and dim == 1 for dim in node.shape(expr))


def reshaped(node: Node, expr: relax.Expr, shape: Sequence[Any]) -> relax.Expr:
    """``expr`` in another shape; a constant stays one."""
    if list(node.shape(expr)) == list(shape):
        return expr
    known = array_of(expr)
    if known is not None and all(isinstance(dim, int) for dim in shape):
        return constant(known.reshape(shape))
    return node.emit(relax.op.reshape(expr, relax.ShapeExpr(list(shape))))


def array_of(expr: relax.Expr) -> NDArray[Any] | None:
    """The array of a constant, None of anything else."""
    return np.asarray(expr.value.numpy()) if isinstance(expr, GenericConst) else None


def along(node: Node, expr: relax.Expr, axis: int, rank: int) -> relax.Expr:
    """A parameter of one value as a scalar, of one value a channel with ones around it.

    ``axis`` counts from the end of ``rank`` axes; a parameter of more axes stays as it is.
    """
    if is_scalar(node, expr):
        return reshaped(node, expr, [])
    if node.rank(expr) != 1:
        return expr
    shape: list[Any] = [1] * (rank - 1)
    shape.insert(axis % rank, node.shape(expr)[0])
    return reshaped(node, expr, shape)


def cast(node: Node, expr: relax.Expr, dtype: str) -> relax.Expr:
    """``expr`` as ``dtype``; a constant is cast at once."""
    if node.dtype(expr) == dtype:
        return expr
    known = array_of(expr)
    if known is not None:
        return constant(known.astype(dtype))
    return node.emit(relax.op.astype(expr, dtype))


def centred(node: Node, x: relax.Expr, zero_point: relax.Expr | None) -> relax.Expr:
    """``x - zero_point``, exactly: in int16 for 8 bits, in int32 for more.

    ``zero_point`` broadcasts against ``x``. Constants are subtracted at import.
    """
    zero = None if zero_point is None else array_of(zero_point)
    if zero_point is None or (zero is not None and not zero.any()):
        return x
    known = array_of(x)
    if known is not None and zero is not None:
        return constant(_narrowed(known.astype(np.int32) - zero.astype(np.int32)))
    wide = "int16" if node.dtype(x) in ("int8", "uint8") else "int32"
    return node.emit(relax.op.subtract(cast(node, x, wide), cast(node, zero_point, wide)))


def _narrowed(array: NDArray[np.int32]) -> NDArray[Any]:
    """``array`` in the fewest bits (8, 16 or 32) that hold its values."""
    low, high = array.min(initial=0), array.max(initial=0)
    for dtype in (np.int8, np.int16):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype)
    return array


def scaled(node: Node, over: Sequence[relax.Expr], under: relax.Expr | None) -> relax.Expr:
    """The product of the scales ``over``, divided by ``under``: float32, in this order."""
    arrays = [array_of(s) for s in (*over, *([] if under is None else [under]))]
    known = [a for a in arrays if a is not None]
    if len(known) == len(arrays):
        return constant(_combined(known, under is not None).astype(np.float32))
    result = over[0]
    for scale in over[1:]:
        result = node.emit(relax.op.multiply(result, scale))
    if under is not None:
        result = node.emit(relax.op.divide(result, under))
    return cast(node, result, "float32")


def _combined(arrays: Sequence[NDArray[Any]], divides: bool) -> NDArray[Any]:
    with np.errstate(all="ignore"):
        over = arrays[:-1] if divides else arrays
        result = over[0]
        for array in over[1:]:
            result = result * array
        return np.asarray(result / arrays[-1] if divides else result)


def rescaled(node: Node, sums: relax.Expr, scale: relax.Expr) -> relax.Expr:
    """Integer sums as float32, times ``scale``."""
    return node.emit(relax.op.multiply(cast(node, sums, "float32"), scale))


def requantized(
    node: Node,
    sums: relax.Expr,
    scale: relax.Expr,
    zero_point: relax.Expr | None,
    element: Element,
) -> relax.Expr:
    """``saturate(round(sums * scale) + zero_point)`` of int32 sums, halves to even.

    ``scale`` (float32) and ``zero_point`` broadcast against ``sums``.
    """
    unit = constant(np.float32(1.0))
    return quantized(node, rescaled(node, sums, scale), unit, zero_point, element)


def quantized(
    node: Node,
    x: relax.Expr,
    scale: relax.Expr,
    zero_point: relax.Expr | None,
    element: Element,
    axis: int = -1,
) -> relax.Expr:
    """``saturate(round(x / scale) + zero_point)`` of a float tensor, halves to even.

    ``scale`` and ``zero_point`` are scalars or of one value an index of ``axis``
    (``R.quantize``), or else broadcast against ``x``.
    """
    zero = zero_point if zero_point is not None else constant(np.zeros((), element.dtype))
    if element.dtype in _BY_RELAX and _plain(node, x, scale, zero):
        zero = cast(node, zero, element.dtype)
        result = node.emit(relax.op.quantize(x, scale, zero, axis, element.dtype))
        return _clipped(node, result, element)
    ratio = node.emit(relax.op.round(_quotient(node, x, scale)))
    shifted = node.emit(relax.op.add(cast(node, ratio, "float32"), cast(node, zero, "float32")))
    return cast(node, node.emit(relax.op.clip(shifted, element.low, element.high)), element.dtype)


def _quotient(node: Node, x: relax.Expr, scale: relax.Expr) -> relax.Expr:
    """``x / scale``, of float16 rounded to float16 whatever precision values are kept in."""
    if node.dtype(x) != "float16":
        return node.emit(relax.op.divide(x, scale))
    wide = node.emit(relax.op.divide(cast(node, x, "float32"), cast(node, scale, "float32")))
    return cast(node, wide, "float16")


def _clipped(node: Node, x: relax.Expr, element: Element) -> relax.Expr:
    """Saturated to fewer bits than its carrier has: equal to saturating once."""
    info = np.iinfo(element.dtype)
    if (element.low, element.high) == (info.min, info.max):
        return x
    return node.emit(relax.op.clip(x, element.low, element.high))


def dequantized(
    node: Node,
    x: relax.Expr,
    scale: relax.Expr,
    zero_point: relax.Expr | None,
    dtype: str = "float32",
    axis: int = -1,
) -> relax.Expr:
    """``(x - zero_point) * scale`` as ``dtype``; parameters as in ``quantized``."""
    own = node.dtype(x)
    zero = zero_point if zero_point is not None else constant(np.zeros((), own))
    if own in (*_BY_RELAX, "int32") and _plain(node, x, scale, zero) and dtype != "float64":
        return node.emit(relax.op.dequantize(x, scale, cast(node, zero, own), axis, dtype))
    wide = own if own.startswith("float") else "int32"
    difference = relax.op.subtract(cast(node, x, wide), cast(node, zero, wide))
    real = cast(node, node.emit(difference), "float32")
    product = node.emit(relax.op.multiply(real, cast(node, scale, "float32")))
    return cast(node, product, dtype)


def _plain(node: Node, x: relax.Expr, scale: relax.Expr, zero: relax.Expr) -> bool:
    """Whether Relax's own operators take these parameters: scalars, or one axis."""
    return node.rank(x) > 0 and node.rank(scale) < 2 and node.rank(zero) < 2
