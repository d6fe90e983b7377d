"""Convolutions and matrix products of integers: summed in int32, exactly.

Padding is by the zero point, which is the 0 of centred values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax

from motet.compiler.frontend.node import Node

from .convolution import LAYOUTS
from .quantization import (
    along,
    array_of,
    centred,
    element_of,
    is_scalar,
    requantized,
    reshaped,
    scaled,
)
from .windows import window


def integer_convolution(
    node: Node, x: relax.Expr, weight: relax.Expr, zeros: Sequence[relax.Expr | None]
) -> relax.Expr:
    """The int32 convolution of NC*spatial ``x`` by ``weight`` without their zero points."""
    rank, spatial = node.rank(x), node.rank(x) - 2
    if spatial not in LAYOUTS:
        node.refuse(f"{spatial} spatial axes: only 1, 2 and 3 are supported")
    shape = node.static(node.shape(weight), "the shape of the weight")
    if len(shape) != rank:
        node.refuse(f"a weight of rank {len(shape)} for an input of rank {rank}")
    kernel = list(node.attr("kernel_shape") or shape[2:])
    win = window(node, kernel, list(node.shape(x)[2:]))
    x_zero, w_zero = zeros
    if x_zero is not None and not is_scalar(node, x_zero):
        node.refuse("a zero point of more than one value for its input")
    layout, axes = LAYOUTS[spatial]
    operator = getattr(relax.op.nn, f"conv{spatial}d")
    result = operator(
        centred(node, x, None if x_zero is None else reshaped(node, x_zero, [])),
        centred(node, weight, None if w_zero is None else along(node, w_zero, 0, rank)),
        strides=win.strides,
        padding=win.padding,
        dilation=win.dilations,
        groups=int(node.attr("group", 1)),
        data_layout=layout,
        kernel_layout="OI" + axes,
        out_dtype="int32",
    )
    return node.emit(result)


def with_bias(node: Node, sums: relax.Expr, bias: relax.Expr | None, axis: int) -> relax.Expr:
    """``sums`` plus an int32 bias along ``axis``."""
    known = None if bias is None else array_of(bias)
    if bias is None or (known is not None and not known.any()):
        return sums
    return node.emit(relax.op.add(sums, along(node, bias, axis, node.rank(sums))))


def _optional(node: Node, index: int) -> relax.Expr | None:
    return node.x(index) if node.has(index) else None


def conv_integer(node: Node) -> relax.Expr:
    """ConvInteger."""
    return integer_convolution(node, node.x(0), node.x(1), [_optional(node, 2), _optional(node, 3)])


def convolved(node: Node, x: relax.Expr) -> relax.Expr:
    """QLinearConv of ``x``, which is channels first."""
    rank = node.rank(x)
    sums = integer_convolution(node, x, node.x(3), [_optional(node, 2), _optional(node, 5)])
    sums = with_bias(node, sums, _optional(node, 8), 1)
    scales = [along(node, node.x(1), 1, rank), along(node, node.x(4), 1, rank)]
    scale = scaled(node, scales, along(node, node.x(6), 1, rank))
    zero = _optional(node, 7)
    element = element_of(node.dtype(x if zero is None else zero))
    return requantized(node, sums, scale, _scalar(node, zero), element)


def _scalar(node: Node, value: relax.Expr | None) -> relax.Expr | None:
    return value if value is None or not is_scalar(node, value) else reshaped(node, value, [])


def q_linear_conv(node: Node) -> relax.Expr:
    """QLinearConv."""
    return convolved(node, node.x(0))


def integer_product(
    node: Node,
    a: relax.Expr,
    b: relax.Expr,
    a_zero: relax.Expr | None,
    b_zero: relax.Expr | None,
) -> relax.Expr:
    """The int32 product of ``a`` and ``b`` without their zero points (one for each row of
    ``a``, each column of ``b``).
    """
    left = centred(node, a, None if a_zero is None else along(node, a_zero, -2, node.rank(a)))
    right = centred(node, b, None if b_zero is None else along(node, b_zero, -1, node.rank(b)))
    return node.emit(relax.op.matmul(left, right, out_dtype="int32"))


def mat_mul_integer(node: Node) -> relax.Expr:
    """MatMulInteger."""
    return integer_product(node, node.x(0), node.x(1), _optional(node, 2), _optional(node, 3))


def q_linear_mat_mul(node: Node) -> relax.Expr:
    """QLinearMatMul; scales and zero points of ``a`` and the result count rows, of ``b``
    columns.
    """
    a, b = node.x(0), node.x(3)
    sums = integer_product(node, a, b, node.x(2), node.x(5))
    rank = node.rank(sums)
    over = [along(node, node.x(1), -2, rank), along(node, node.x(4), -1, rank)]
    scale = scaled(node, over, along(node, node.x(6), -2, rank))
    zero = along(node, node.x(7), -2, rank)
    return requantized(node, sums, scale, zero, element_of(node.dtype(node.x(7))))


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "ConvInteger": conv_integer,
    "MatMulInteger": mat_mul_integer,
    "QLinearConv": q_linear_conv,
    "QLinearMatMul": q_linear_mat_mul,
}
