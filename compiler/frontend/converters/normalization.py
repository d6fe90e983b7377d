"""Normalisations and soft maxima."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import product
from motet.compiler.frontend.values import Constant, Value, constant


def batch_normalization(node: Node) -> relax.Expr:
    """BatchNormalization at inference, in float32 where half data has float32 statistics."""
    if node.attr("training_mode", 0):
        node.refuse("training_mode = 1: Motet runs inference only")
    if not node.attr("spatial", 1):
        node.refuse("spatial = 0 (statistics per cell), an opset 7 option")
    dtype = node.dtype()
    wide = "float32" if any(node.dtype(node.x(i)) != dtype for i in range(1, 5)) else dtype
    data, *rest = [_as(node, node.value(i), wide) for i in range(5)]
    normal = relax.op.nn.batch_norm(
        data, *rest, axis=1, epsilon=float(node.attr("epsilon", 1e-5)), training=False
    )
    result = node.emit(relax.TupleGetItem(node.emit(normal), 0))
    return result if wide == dtype else relax.op.astype(result, dtype)


def _as(node: Node, value: Value, dtype: str) -> relax.Expr:
    if isinstance(value, Constant):
        return value.tensor() if value.array.dtype == dtype else constant(value.array.astype(dtype))
    x = node.tensor(value)
    return x if node.dtype(x) == dtype else relax.op.astype(x, dtype)


def _normal_shape(node: Node, axis: int) -> list[Any]:
    return list(node.shape()[axis:])


def _scale(node: Node, index: int, shape: list[Any]) -> relax.Expr:
    """Input ``index`` (or zeros) in the normalised shape."""
    if not node.has(index):
        return constant(np.zeros(node.static(shape, "a normalised dimension"), node.dtype()))
    array = node.constant(index)
    if array is not None:
        sizes = node.static(shape, "a normalised dimension")
        return constant(np.ascontiguousarray(np.broadcast_to(array, sizes)))
    x = node.x(index)
    return x if list(node.shape(x)) == shape else relax.op.broadcast_to(x, relax.ShapeExpr(shape))


def layer_normalization(node: Node) -> list[relax.Expr]:
    """LayerNormalization over ``axis`` and all after it; mean and 1/deviation where asked."""
    axis, epsilon = node.axis(-1), float(node.attr("epsilon", 1e-5))
    shape, axes = _normal_shape(node, axis), list(range(axis, node.rank()))
    x, gamma, beta = node.x(), _scale(node, 1, shape), _scale(node, 2, shape)
    outputs = [relax.op.nn.layer_norm(x, gamma, beta, axes, epsilon)]
    if node.outputs > 1:
        outputs.append(node.emit(relax.op.mean(x, axes, True)))
    if node.outputs > 2:
        variance = relax.op.add(relax.op.variance(x, axes, True), node.scalar(epsilon))
        outputs.append(relax.op.rsqrt(variance))
    return outputs


def rms_normalization(node: Node) -> relax.Expr:
    """RMSNormalization over ``axis`` and all after it."""
    axis, epsilon = node.axis(-1), float(node.attr("epsilon", 1e-5))
    axes = list(range(axis, node.rank()))
    if axis == 0:  # Relax's operator needs an axis that is left over
        x = node.x()
        square = relax.op.mean(relax.op.multiply(x, x), axes, True)
        normal = relax.op.multiply(x, relax.op.rsqrt(relax.op.add(square, node.scalar(epsilon))))
        return relax.op.multiply(normal, node.x(1))
    return relax.op.nn.rms_norm(node.x(), _scale(node, 1, _normal_shape(node, axis)), axes, epsilon)


def local_response(node: Node) -> relax.Expr:
    """LRN: x / (bias + alpha/size sum over ``size`` neighbouring channels x^2)^beta."""
    size, channels = int(node.attr("size")), node.shape()[1]
    channels = node.static([channels], "the channels of LRN")[0]
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    rows = np.arange(channels)[:, None]
    near = (np.arange(channels) >= rows - before) & (np.arange(channels) <= rows + after)
    x = node.x()
    band = near.astype(node.dtype()) * (float(node.attr("alpha", 1e-4)) / size)
    total = _over_channels(node, relax.op.multiply(x, x), band.astype(node.dtype()))
    shifted = node.emit(relax.op.add(total, node.scalar(node.attr("bias", 1.0))))
    return relax.op.divide(x, _power(node, shifted, float(node.attr("beta", 0.75))))


def _over_channels(node: Node, x: relax.Expr, weights: NDArray[Any]) -> relax.Expr:
    """Sums of channels, ``weights`` [C, C] times the channels of every position."""
    dims = node.shape()
    if len(dims) == 4:
        return relax.op.nn.conv2d(x, constant(weights[:, :, np.newaxis, np.newaxis]))
    flat = relax.op.reshape(x, (dims[0], dims[1], product(dims[2:])))
    return relax.op.reshape(relax.op.matmul(constant(weights), flat), dims)


def _power(node: Node, x: relax.Expr, exponent: float) -> relax.Expr:
    """``x`` to the power of ``exponent``, by roots where they do: far quicker, as exact."""
    if exponent not in (0.5, 0.75):
        return relax.op.power(x, node.scalar(exponent))
    root = node.emit(relax.op.sqrt(x))
    return root if exponent == 0.5 else relax.op.multiply(root, relax.op.sqrt(root))


def mean_variance(node: Node) -> relax.Expr:
    """MeanVarianceNormalization: (x - mean) / (deviation + 1e-9), as onnx's function body."""
    axes, x = list(node.attr("axes") or (0, 2, 3)), node.x()
    centred = node.emit(relax.op.subtract(x, relax.op.mean(x, axes, True)))
    variance = relax.op.mean(relax.op.multiply(centred, centred), axes, True)
    return relax.op.divide(centred, relax.op.add(relax.op.sqrt(variance), node.scalar(1e-9)))


def lp_normalization(node: Node) -> relax.Expr:
    """LpNormalization: x over its 1- or 2-norm along ``axis``; 0 where the norm is 0."""
    x, axis = node.x(), node.axis(-1)
    if int(node.attr("p", 2)) == 1:
        norm = relax.op.sum(relax.op.abs(x), [axis], True)
    else:
        norm = relax.op.sqrt(relax.op.sum(relax.op.multiply(x, x), [axis], True))
    norm = node.emit(norm)
    safe = relax.op.where(relax.op.equal(norm, node.scalar(0)), node.scalar(1), norm)
    return relax.op.divide(x, safe)


def _soft(operator: Callable[..., Any]) -> Callable[[Node], Any]:
    """Softmax or LogSoftmax; before opset 13 all axes from ``axis`` on are one."""

    def convert(node: Node) -> relax.Expr:
        rank = node.rank()
        if node.opset >= 13:
            return operator(node.x(), node.axis(-1))
        axis = node.axis(1) if rank > 1 or "axis" in node.attributes else 0
        dims = node.shape()
        wide = [i for i in range(axis, rank) if dims[i] != 1]
        if len(wide) <= 1:
            return operator(node.x(), wide[0] if wide else axis)
        flat = relax.op.reshape(node.x(), (product(dims[:axis]), product(dims[axis:])))
        return relax.op.reshape(operator(flat, -1), dims)

    return convert


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
    "RMSNormalization": rms_normalization,
    "LRN": local_response,
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance,
    "Softmax": _soft(relax.op.nn.softmax),
    "LogSoftmax": _soft(relax.op.nn.log_softmax),
}
