"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.

Per tensor and per axis they are ``R.quantize`` and ``R.dequantize``; blocked parameters
(opset 21) are vectors with a scale each (``vectors``), or where no vectors hold them repeated to
the tensor's size, which constants are at import.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from tvm import relax

from motet.compiler.frontend.node import Node, is_float
from motet.compiler.frontend.values import constant
from motet.runtime.element_types import NARROW, carrier_dtype
from motet.targets.operators.narrow import round_to

from . import vectors
from .quantization import (
    along,
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
    precision = _dtype(node, "precision") or _wider(node.element_type(), node.element_type(1))
    x, scale = _as_precise(node, x, precision), _as_precise(node, scale, precision)
    scale, axis = _parameter(node, x, scale)
    if zero is not None:
        zero = _parameter(node, x, zero)[0]
    name = _quantized_type(node)
    if precision not in NARROW and not is_narrow_float(name):
        return quantized(node, x, scale, zero, element_of(name), axis)
    ratio = node.emit(relax.op.divide(x, along(node, scale, axis, node.rank(x))))
    if precision in NARROW:
        ratio = node.emit(round_to(ratio, precision, saturate=False))
    if is_narrow_float(name):
        return _rounded(node, ratio, zero, name, axis)
    unit = constant(np.float32(1))
    return quantized(node, ratio, unit, zero, element_of(name), axis)


def _as_precise(node: Node, x: relax.Expr, precision: str) -> relax.Expr:
    """``x`` in the type of the division; a narrow one is in its carrier, rounded."""
    x = cast(node, x, carrier_dtype(precision))
    return node.emit(round_to(x, precision, saturate=False)) if precision in NARROW else x


def _rounded(
    node: Node, ratio: relax.Expr, zero: relax.Expr | None, name: str, axis: int
) -> relax.Expr:
    """A quotient as a float of 8 bits or fewer, whose zero point is mostly 0."""
    known = None if zero is None else array_of(zero)
    if zero is not None and (known is None or known.any()):
        ratio = node.emit(relax.op.add(ratio, along(node, zero, axis, node.rank(ratio))))
    return round_to(cast(node, ratio, "float32"), name, bool(node.attr("saturate", 1)))


def is_narrow_float(name: str) -> bool:
    """Whether ``name`` is a floating-point type that is rounded to on its bits."""
    return name in NARROW and NARROW[name].is_float


def _wider(left: str, right: str) -> str:
    same = left == right and left in ("float16", "bfloat16")
    return left if same else "float32"


def _quantized_type(node: Node) -> str:
    """The output's element type: the zero point's, else ``output_dtype``, else uint8."""
    return node.element_type(2) if node.has(2) else _dtype(node, "output_dtype") or "uint8"


def dequantize_linear(node: Node) -> relax.Expr:
    """DequantizeLinear, to ``output_dtype`` or the scale's type."""
    x, zero = node.x(), node.x(2) if node.has(2) else None
    dtype = carrier_dtype(_dtype(node, "output_dtype") or node.element_type(1))
    made = _in_vectors(node, dtype)
    if made is not None:
        return made
    scale, axis = _parameter(node, x, node.x(1))
    if zero is not None:
        zero = _parameter(node, x, zero)[0]
    return dequantized(node, x, scale, zero, dtype, axis)


def _in_vectors(node: Node, dtype: str) -> relax.Expr | None:
    """Blocks as vectors with a scale each; None where they are none."""
    block, rank = int(node.attr("block_size", 0)), node.rank(node.x())
    if not block or dtype != "float32":
        return None
    axis = node.normal_axis(int(node.attr("axis", 1)), rank)
    _require_blocks(node, node.x(), node.x(1), axis, block)
    return vectors.blocks(
        node, node.x(), node.x(1), node.x(2) if node.has(2) else None, axis, block
    )


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
    extent, blocks = _require_blocks(node, x, value, axis, block)
    known = array_of(value)
    if known is not None:
        return constant(np.repeat(known, block, axis).take(range(extent), axis))
    spread = node.emit(relax.op.repeat(value, block, axis))
    if blocks * block == extent:
        return spread
    return node.emit(relax.op.strided_slice(spread, [axis], [0], [extent], [1]))


def _require_blocks(
    node: Node, x: relax.Expr, value: relax.Expr, axis: int, block: int
) -> tuple[int, int]:
    """Elements and blocks along ``axis``; refuses parameters that do not fit."""
    if node.rank(value) != node.rank(x):
        node.refuse(f"a blocked scale or zero point of rank {node.rank(value)}")
    extent = node.static([node.shape(x)[axis]], "the blocked axis")[0]
    blocks = node.static([node.shape(value)[axis]], "the number of blocks")[0]
    if blocks != -(-extent // block):
        node.refuse(f"{blocks} blocks of {block} for {extent} elements along axis {axis}")
    return extent, blocks


def dynamic_parameters(node: Node, x: relax.Expr) -> tuple[relax.Expr, relax.Expr]:
    """Scale (float32) and zero point (uint8) of ``x`` as DynamicQuantizeLinear chooses them:
    0 and the extremes of ``x`` span 255 steps.

    Where all of ``x`` is 0 the scale is 1, as in onnxruntime (ONNX's formula divides by 0).
    """
    nothing, one, steps = (constant(np.float32(v)) for v in (0.0, 1.0, 255.0))
    high = node.emit(relax.op.maximum(node.emit(relax.op.max(x)), nothing))
    low = node.emit(relax.op.minimum(node.emit(relax.op.min(x)), nothing))
    flat = node.emit(relax.op.equal(high, low))
    scale = scaled(node, [node.emit(relax.op.subtract(high, low))], steps)
    scale = node.emit(relax.op.where(flat, one, scale))
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
