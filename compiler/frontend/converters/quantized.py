"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.

Per tensor and per axis they are ``R.quantize`` and ``R.dequantize``; blocked parameters
(opset 21) are repeated to the tensor's size, which constants are at import.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from tvm import relax

from motet.compiler.frontend.node import Node, is_float
from motet.compiler.frontend.values import constant

from .quantization import (
    Element,
    array_of,
    cast,
    dequantized,
    element_of,
    is_scalar,
    quantized,
    reshaped,
    scaled,
)

_BYTE = element_of("uint8")


def _dtype(node: Node, attribute: str) -> str | None:
    """The element type that an attribute names; None where it is 0 or absent."""
    number = int(node.attr(attribute, 0))
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number)).name if number else None


def quantize_linear(node: Node) -> relax.Expr:
    """QuantizeLinear: the division in ``precision``, else in the wider type of its operands."""
    x, scale, zero = node.x(), node.x(1), node.x(2) if node.has(2) else None
    precision = _dtype(node, "precision") or _wider(node.dtype(x), node.dtype(scale))
    x, scale = cast(node, x, precision), cast(node, scale, precision)
    scale, axis = _parameter(node, x, scale)
    if zero is not None:
        zero = _parameter(node, x, zero)[0]
    return quantized(node, x, scale, zero, _quantized_type(node), axis)


def _wider(left: str, right: str) -> str:
    return "float16" if left == right == "float16" else "float32"


def _quantized_type(node: Node) -> Element:
    """The output's element type: the zero point's, else ``output_dtype``, else uint8."""
    if node.has(2):
        return element_of(node.dtype(node.x(2)))
    return element_of(_dtype(node, "output_dtype") or "uint8")


def dequantize_linear(node: Node) -> relax.Expr:
    """DequantizeLinear, to ``output_dtype`` or the scale's type."""
    x, zero = node.x(), node.x(2) if node.has(2) else None
    dtype = _dtype(node, "output_dtype") or node.dtype(node.x(1))
    scale, axis = _parameter(node, x, node.x(1))
    if zero is not None:
        zero = _parameter(node, x, zero)[0]
    return dequantized(node, x, scale, zero, dtype, axis)


def _parameter(node: Node, x: relax.Expr, value: relax.Expr) -> tuple[relax.Expr, int]:
    """A scale or zero point, ready to be used along the axis that is returned with it."""
    rank, block = node.rank(x), int(node.attr("block_size", 0))
    if is_scalar(node, value) and not block:
        return reshaped(node, value, []), -1
    axis = node.normal_axis(int(node.attr("axis", 1)), rank)
    if not block:
        if node.rank(value) != 1:
            node.refuse(f"a scale or zero point of rank {node.rank(value)} without block_size")
        return value, axis
    return _repeated(node, x, value, axis, block), axis


def _repeated(node: Node, x: relax.Expr, value: relax.Expr, axis: int, block: int) -> relax.Expr:
    """One value for each block of ``block`` neighbours along ``axis``, repeated for each."""
    extent = node.static([node.shape(x)[axis]], "the blocked axis")[0]
    blocks = node.static([node.shape(value)[axis]], "the number of blocks")[0]
    if node.rank(value) != node.rank(x) or blocks != -(-extent // block):
        node.refuse(f"{blocks} blocks of {block} for {extent} elements along axis {axis}")
    known = array_of(value)
    if known is not None:
        return constant(np.repeat(known, block, axis).take(range(extent), axis))
    spread = node.emit(relax.op.repeat(value, block, axis))
    if blocks * block == extent:
        return spread
    return node.emit(relax.op.strided_slice(spread, [axis], [0], [extent], [1]))


def dynamic_parameters(node: Node, x: relax.Expr) -> tuple[relax.Expr, relax.Expr]:
    """Scale (float32) and zero point (uint8) of ``x`` as DynamicQuantizeLinear chooses them:
    0 and the extremes of ``x`` span 255 steps.
    """
    nothing, one, steps = (constant(np.float32(v)) for v in (0.0, 1.0, 255.0))
    high = node.emit(relax.op.maximum(node.emit(relax.op.max(x)), nothing))
    low = node.emit(relax.op.minimum(node.emit(relax.op.min(x)), nothing))
    span = node.emit(relax.op.subtract(high, low))
    flat = node.emit(relax.op.equal(span, nothing))
    span = node.emit(relax.op.where(flat, one, span))
    scale = scaled(node, [span], steps)
    first = node.emit(relax.op.divide(low, scale))
    first = node.emit(relax.op.subtract(nothing, first))
    zero = node.emit(relax.op.round(node.emit(relax.op.clip(first, 0, 255))))
    return scale, node.emit(relax.op.astype(zero, "uint8"))


def dynamic_quantize_linear(node: Node) -> list[relax.Expr]:
    """DynamicQuantizeLinear: uint8, with its scale and zero point computed at run time."""
    x = node.x()
    if not is_float(node.dtype(x)):
        node.refuse(f"an input of type {node.dtype(x)}")
    scale, zero = dynamic_parameters(node, x)
    return [quantized(node, x, scale, zero, _BYTE), scale, zero]


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "DynamicQuantizeLinear": dynamic_quantize_linear,
}
