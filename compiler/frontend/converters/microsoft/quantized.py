"""Elementwise and pooling operators on quantised tensors, of the ``com.microsoft`` domain.

onnxruntime computes QLinearAdd and QLinearMul in float32 with the zero point inside the
rounding, which is done here in the same order; the others are dequantised, computed and
quantised again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.converters import pooling, quantized
from motet.compiler.frontend.converters.convolution import LAYOUTS
from motet.compiler.frontend.converters.quantization import (
    array_of,
    cast,
    centred,
    dequantized,
    element_of,
    is_scalar,
    requantized,
    reshaped,
    scaled,
)
from motet.compiler.frontend.converters.quantization import quantized as quantize
from motet.compiler.frontend.converters.windows import window
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import Tensor, constant


def _real(node: Node, index: int) -> relax.Expr:
    """Inputs ``index`` (tensor), ``index + 1`` (scale) and ``index + 2`` (zero point) as float."""
    return dequantized(node, node.x(index), _one(node, index + 1), _zero(node, index + 2))


def _one(node: Node, index: int) -> relax.Expr:
    value = node.x(index)
    if not is_scalar(node, value):
        node.refuse(f"input {index}, a scale or zero point of more than one value")
    return reshaped(node, value, [])


def _zero(node: Node, index: int) -> relax.Expr | None:
    return _one(node, index) if node.has(index) else None


def _back(node: Node, real: relax.Expr, index: int, dtype: str | None = None) -> relax.Expr:
    """``real`` by the scale in input ``index`` and the zero point after it, as the type of
    input 0 (where that is not ``dtype``).
    """
    zero = _zero(node, index + 1)
    element = element_of(dtype or node.dtype(node.x(0)))
    return quantize(node, node.emit(real), _one(node, index), zero, element)


def _float(node: Node, index: int) -> relax.Expr:
    """A zero point as float32; 0 where it is left out."""
    zero = _zero(node, index)
    return constant(np.float32(0)) if zero is None else cast(node, zero, "float32")


def _rounded(node: Node, value: relax.Expr) -> relax.Expr:
    """``value``, which holds the zero point, as the type of input 0."""
    unit = constant(np.float32(1))
    return quantize(node, node.emit(value), unit, None, element_of(node.dtype(node.x(0))))


def q_linear_add(node: Node) -> relax.Expr:
    """QLinearAdd: ``a ra + (b rb + (zc - (ra za + rb zb)))`` with ``ra = sa / sc``."""
    op, out = relax.op, _one(node, 6)
    a, b = (cast(node, node.x(i), "float32") for i in (0, 3))
    ra, rb = (scaled(node, [_one(node, i)], out) for i in (1, 4))
    parts = [node.emit(op.multiply(r, _float(node, i))) for r, i in ((ra, 2), (rb, 5))]
    fixed = node.emit(op.subtract(_float(node, 7), node.emit(op.add(*parts))))
    right = node.emit(op.add(node.emit(op.multiply(b, rb)), fixed))
    return _rounded(node, op.add(node.emit(op.multiply(a, ra)), right))


def q_linear_mul(node: Node) -> relax.Expr:
    """QLinearMul: ``(a - za) (b - zb) r + zc`` with ``r = sa sb / sc``."""
    op = relax.op
    a, b = (cast(node, centred(node, node.x(i), _zero(node, i + 2)), "float32") for i in (0, 3))
    ratio = scaled(node, [_one(node, 1), _one(node, 4)], _one(node, 6))
    product = node.emit(op.multiply(node.emit(op.multiply(a, b)), ratio))
    return _rounded(node, op.add(product, _float(node, 7)))


def q_linear_sigmoid(node: Node) -> relax.Expr:
    """QLinearSigmoid."""
    return _back(node, relax.op.sigmoid(_real(node, 0)), 3)


def q_linear_leaky_relu(node: Node) -> relax.Expr:
    """QLinearLeakyRelu."""
    alpha = float(node.attr("alpha", 0.01))
    return _back(node, relax.op.nn.leakyrelu(_real(node, 0), alpha), 3)


def q_linear_softmax(node: Node) -> relax.Expr:
    """QLinearSoftmax; before opset 13 (an attribute) over all axes from ``axis``."""
    real, shape = _real(node, 0), node.shape()
    if int(node.attr("opset", 13)) >= 13:
        return _back(node, relax.op.nn.softmax(real, node.axis(-1)), 3)
    axis = node.axis(1)
    extents = node.static(shape, "a shape that is flattened")
    flat = [int(np.prod(extents[:axis])), int(np.prod(extents[axis:]))]
    result = relax.op.nn.softmax(node.emit(relax.op.reshape(real, flat)), 1)
    return _back(node, relax.op.reshape(node.emit(result), extents), 3)


def q_linear_concat(node: Node) -> relax.Expr:
    """QLinearConcat: inputs of other parameters than the result's are requantised."""
    parts = [_alike(node, i) for i in range(2, len(node.inputs), 3)]
    axis = node.normal_axis(int(node.attr("axis", 0)), node.rank(parts[0]))
    return relax.op.concat(parts, axis)


def _alike(node: Node, index: int) -> relax.Expr:
    """Input ``index`` in the scale and zero point of the result."""
    own, result = (node.x(index + 1), _zero(node, index + 2)), (node.x(0), _zero(node, 1))
    if _equal(own, result):
        return node.x(index)
    return _back(node, _real(node, index), 0, node.dtype(node.x(index)))


def _equal(left: Sequence[relax.Expr | None], right: Sequence[relax.Expr | None]) -> bool:
    arrays = [[None if e is None else array_of(e) for e in side] for side in (left, right)]
    return all(
        a is not None and b is not None and a.reshape(-1).tolist() == b.reshape(-1).tolist()
        for a, b in zip(*arrays, strict=True)
    )


def q_linear_where(node: Node) -> relax.Expr:
    """QLinearWhere: both branches requantised, then chosen from."""
    branches = []
    for index in (1, 4):
        same = _equal((node.x(index + 1), _zero(node, index + 2)), (node.x(7), _zero(node, 8)))
        x = node.x(index)
        branches.append(x if same else _back(node, _real(node, index), 7, node.dtype(x)))
    return relax.op.where(node.x(0), *branches)


def channels_first(node: Node, x: relax.Expr, last: bool) -> relax.Expr:
    """``x`` with its last axis moved to position 1 where ``last``."""
    if not last:
        return x
    rank = node.rank(x)
    return node.emit(relax.op.permute_dims(x, [0, rank - 1, *range(1, rank - 1)]))


def channels_back(node: Node, x: relax.Expr, last: bool) -> relax.Expr:
    """The inverse of ``channels_first``."""
    if not last:
        return x
    return node.emit(relax.op.permute_dims(x, [0, *range(2, node.rank(x)), 1]))


def q_linear_global_average_pool(node: Node) -> relax.Expr:
    """QLinearGlobalAveragePool: int32 sums, then one factor ``sx / (sy n)``."""
    last = bool(node.attr("channels_last", 0))
    x = channels_first(node, node.x(), last)
    axes = list(range(2, node.rank(x)))
    extents = node.static([node.shape(x)[a] for a in axes], "the pooled size")
    wide = cast(node, centred(node, x, _zero(node, 2)), "int32")
    sums = node.emit(relax.op.sum(wide, axes, True))
    count = constant(np.float32(np.prod(extents)))
    under = scaled(node, [_one(node, 3), count], None)
    scale = scaled(node, [_one(node, 1)], under)
    result = requantized(node, sums, scale, _zero(node, 4), element_of(node.dtype(x)))
    return channels_back(node, result, last)


def q_linear_average_pool(node: Node) -> relax.Expr:
    """QLinearAveragePool; with ``count_include_pad`` every window counts all its cells, even
    those that only rounding the size up added (which AveragePool does not count).
    """
    last = bool(node.attr("channels_last", 0))
    real = channels_first(node, _real(node, 0), last)
    plain = Node(node.builder, "AveragePool", 11, node.attributes, [Tensor(real)], 1)
    whole = node.attr("count_include_pad", 0) and node.attr("ceil_mode", 0)
    pooled = _mean_of_all_cells(plain) if whole else pooling.average_pool(plain)
    return _back(node, channels_back(node, node.emit(pooled), last), 3)


def _mean_of_all_cells(node: Node) -> relax.Expr:
    kernel = list(node.attr("kernel_shape"))
    win, rank = window(node, kernel, list(node.shape()[2:])), len(kernel)
    operator = getattr(relax.op.nn, f"avg_pool{rank}d")
    return operator(
        node.x(), pool_size=kernel, strides=win.strides, padding=win.padding,
        count_include_pad=True, layout="NC" + LAYOUTS[rank][1],
    )  # fmt: skip


def q_linear_reduce_mean(node: Node) -> relax.Expr:
    """QLinearReduceMean: int32 sums, then one factor."""
    rank = node.rank()
    axes = [node.normal_axis(int(a), rank) for a in node.attr("axes") or range(rank)]
    wide = cast(node, centred(node, node.x(), _zero(node, 2)), "int32")
    extents = node.static([node.shape()[a] for a in axes], "the reduced size")
    sums = node.emit(relax.op.sum(wide, axes, bool(node.attr("keepdims", 1))))
    under = scaled(node, [_one(node, 3), constant(np.float32(np.prod(extents)))], None)
    scale = scaled(node, [_one(node, 1)], under)
    return requantized(node, sums, scale, _zero(node, 4), element_of(node.dtype()))


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "QuantizeLinear": quantized.quantize_linear,
    "DequantizeLinear": quantized.dequantize_linear,
    "QLinearAdd": q_linear_add,
    "QLinearMul": q_linear_mul,
    "QLinearSigmoid": q_linear_sigmoid,
    "QLinearLeakyRelu": q_linear_leaky_relu,
    "QLinearSoftmax": q_linear_softmax,
    "QLinearConcat": q_linear_concat,
    "QLinearWhere": q_linear_where,
    "QLinearGlobalAveragePool": q_linear_global_average_pool,
    "QLinearAveragePool": q_linear_average_pool,
    "QLinearReduceMean": q_linear_reduce_mean,
}
