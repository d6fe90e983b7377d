"""Products of quantised tensors, of the ``com.microsoft`` domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.converters.quantization import (
    along,
    array_of,
    element_of,
    quantized,
    requantized,
    rescaled,
    scaled,
)
from motet.compiler.frontend.converters.quantized import dynamic_parameters
from motet.compiler.frontend.converters.quantized_products import (
    convolved,
    integer_product,
)
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import constant

from .quantized import channels_back, channels_first


def _optional(node: Node, index: int) -> relax.Expr | None:
    return node.x(index) if node.has(index) else None


def q_linear_conv(node: Node) -> relax.Expr:
    """QLinearConv of this domain: ``channels_last`` moves the channels of input and output."""
    last = bool(node.attr("channels_last", 0))
    return channels_back(node, convolved(node, channels_first(node, node.x(), last)), last)


def q_gemm(node: Node) -> relax.Expr:
    """QGemm: ``alpha op(A) op(B) + C`` with an int32 C; float32 where no output scale is given."""
    a, b = _flipped(node, 0, "transA"), _flipped(node, 3, "transB")
    sums = integer_product(node, a, b, node.x(2), node.x(5))
    if node.has(6):
        sums = node.emit(relax.op.add(sums, node.x(6)))
    alpha = constant(np.float32(node.attr("alpha", 1.0)))
    over = [alpha, along(node, node.x(1), -2, 2), along(node, node.x(4), -1, 2)]
    if not node.has(7):
        return rescaled(node, sums, scaled(node, over, None))
    scale = scaled(node, over, along(node, node.x(7), -1, 2))
    zero = along(node, node.x(8), -1, 2) if node.has(8) else None
    return requantized(node, sums, scale, zero, element_of(node.dtype(a if zero is None else zero)))


def _flipped(node: Node, index: int, attribute: str) -> relax.Expr:
    """A matrix, transposed where ``attribute`` says so; a constant at import."""
    x = node.x(index)
    if not node.attr(attribute, 0):
        return x
    known = array_of(x)
    if known is not None:
        return constant(np.ascontiguousarray(known.T))
    return node.emit(relax.op.permute_dims(x, [1, 0]))


def _to_float(
    node: Node, sums: relax.Expr, scales: list[relax.Expr], bias: relax.Expr | None
) -> relax.Expr:
    rank = node.rank(sums)
    factors = [along(node, scales[0], -2, rank), along(node, scales[1], -1, rank)]
    real = rescaled(node, sums, scaled(node, factors, None))
    return real if bias is None else relax.op.add(real, bias)


def mat_mul_integer_to_float(node: Node) -> relax.Expr:
    """MatMulIntegerToFloat: an integer product times its scales, plus a float bias."""
    zeros = _optional(node, 4), _optional(node, 5)
    sums = integer_product(node, node.x(0), node.x(1), *zeros)
    return _to_float(node, sums, [node.x(2), node.x(3)], _optional(node, 6))


def dynamic_quantize_mat_mul(node: Node) -> relax.Expr:
    """DynamicQuantizeMatMul: A is quantised to uint8 by its own extremes, then multiplied."""
    a = node.x(0)
    scale, zero = dynamic_parameters(node, a)
    rounded = quantized(node, a, scale, zero, element_of("uint8"))
    sums = integer_product(node, rounded, node.x(1), zero, _optional(node, 3))
    return _to_float(node, sums, [scale, node.x(2)], _optional(node, 4))


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "QLinearConv": q_linear_conv,
    "QGemm": q_gemm,
    "MatMulIntegerToFloat": mat_mul_integer_to_float,
    "DynamicQuantizeMatMul": dynamic_quantize_mat_mul,
}
