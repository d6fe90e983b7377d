"""Normalisations of transformers and diffusion models, with what is added before them.

``LayerNormalization`` and ``SimplifiedLayerNormalization`` are written by onnxruntime into
the default domain, at any opset; the checks move them here where ONNX has no such operator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.converters.agreeing import added
from motet.compiler.frontend.converters.normalization import (
    layer_normalization,
    rms_normalization,
)
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import Constant, Value, counted

from .views import optional, plain


def simplified_layer_normalization(node: Node) -> list[relax.Expr]:
    """``SimplifiedLayerNormalization``: x / root mean square, and 1 / that root where asked."""
    outputs = [rms_normalization(node)]
    if node.outputs > 1:
        axes = list(range(node.axis(-1), node.rank()))
        outputs.append(_inverse_root(node, node.x(), axes))
    return outputs


def _inverse_root(node: Node, x: relax.Expr, axes: list[int]) -> relax.Expr:
    square = relax.op.mean(relax.op.multiply(x, x), axes, True)
    epsilon = node.scalar(float(node.attr("epsilon", 1e-5)))
    return node.emit(relax.op.rsqrt(relax.op.add(square, epsilon)))


def _sum(node: Node, bias: int) -> relax.Expr:
    """Input + skip + bias (input ``bias``, optional)."""
    total = added(node, node.x(), node.x(1))
    return node.emit(relax.op.add(total, node.x(bias))) if node.has(bias) else total


def skip_layer_normalization(node: Node) -> list[relax.Expr]:
    """``SkipLayerNormalization`` of input + skip + bias; mean, 1/deviation and the sum."""
    total, epsilon = _sum(node, 4), float(node.attr("epsilon", 1e-12))
    inputs = [total, node.value(2), optional(node, 3)]
    wanted = min(node.outputs, 3)
    view = plain(node, "LayerNormalization", inputs, 17, wanted, epsilon=epsilon)
    return [*layer_normalization(view), *([total] if node.outputs > 3 else [])]


def skip_simplified(node: Node) -> list[relax.Expr]:
    """``SkipSimplifiedLayerNormalization`` of input + skip + bias, with the same outputs."""
    total, epsilon = _sum(node, 3), float(node.attr("epsilon", 1e-12))
    view = plain(node, "RMSNormalization", [total, node.value(2)], 23, epsilon=epsilon)
    if node.outputs == 1:
        return [rms_normalization(view)]
    last = [node.rank(total) - 1]
    mean = node.emit(relax.op.mean(total, last, True))
    return [rms_normalization(view), mean, _inverse_root(view, total, last), total][: node.outputs]


def embed_layer_normalization(node: Node) -> list[relax.Expr]:
    """``EmbedLayerNormalization``: word + position + segment embeddings, normalised.

    Further outputs: the number of words that the mask keeps in each sequence (0 without a
    mask), and the sum of the embeddings.
    """
    batch, length = node.shape()
    words = node.emit(relax.op.take(node.x(2), node.x(), 0, mode="clip"))
    positions = node.x(8) if node.has(8) else node.emit(counted(length))
    total = relax.op.add(words, relax.op.take(node.x(3), positions, 0, mode="clip"))
    if node.has(1) and node.has(4):
        total = relax.op.add(total, relax.op.take(node.x(4), node.x(1), 0, mode="clip"))
    total, epsilon = node.emit(total), float(node.attr("epsilon", 1e-12))
    inputs = [total, node.value(5), node.value(6)]
    outputs = layer_normalization(plain(node, "LayerNormalization", inputs, 17, epsilon=epsilon))
    if node.has(7):
        kept = relax.op.astype(relax.op.not_equal(node.x(7), node.scalar(0, "int32")), "int32")
        count = relax.op.sum(kept, [1])
    else:
        count = relax.op.zeros(relax.ShapeExpr([batch]), "int32")
    return [*outputs, count, total][: node.outputs]


def group_normalization(node: Node) -> relax.Expr:
    """``GroupNorm`` of ``[N, H, W, C]`` (or channels first), then SiLU where asked."""
    return _group_norm(node, node.x())


def skip_group_normalization(node: Node) -> list[relax.Expr]:
    """``SkipGroupNorm``: GroupNorm of x + skip + bias, and that sum."""
    last = bool(node.attr("channels_last", 1))
    skip, bias = node.x(3), node.x(4) if node.has(4) else None
    if node.rank(skip) == 2:
        n, c = node.shape(skip)
        skip = relax.op.reshape(skip, relax.ShapeExpr([n, 1, 1, c] if last else [n, c, 1, 1]))
    total = node.emit(relax.op.add(node.x(), node.emit(skip)))
    if bias is not None:
        total = relax.op.add(total, bias if last else relax.op.reshape(bias, [1, -1, 1, 1]))
    total = node.emit(total)
    return [_group_norm(node, total), total][: node.outputs]


def _group_norm(node: Node, x: relax.Expr) -> relax.Expr:
    last, dtype = bool(node.attr("channels_last", 1)), node.dtype()
    channel, axes = (3, [1, 2]) if last else (1, [2, 3])
    activation = int(node.attr("activation", 0))
    if activation not in (0, 1):
        node.refuse(f"activation {activation}: 0 (none) and 1 (SiLU) are defined")
    result = node.emit(
        relax.op.nn.group_norm(
            x,
            _typed(node, node.value(1), dtype),
            _typed(node, node.value(2), dtype),
            num_groups=int(node.attr("groups")),
            channel_axis=channel,
            axes=axes,
            epsilon=float(node.attr("epsilon", 1e-5)),
        )
    )
    return relax.op.nn.silu(result) if activation else result


def _typed(node: Node, value: Value, dtype: str) -> relax.Expr:
    if isinstance(value, Constant):
        return Constant(value.array.astype(np.dtype(dtype))).tensor()
    x = node.tensor(value)
    return x if node.dtype(x) == dtype else node.emit(relax.op.astype(x, dtype))


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "LayerNormalization": layer_normalization,
    "SimplifiedLayerNormalization": simplified_layer_normalization,
    "SkipLayerNormalization": skip_layer_normalization,
    "SkipSimplifiedLayerNormalization": skip_simplified,
    "EmbedLayerNormalization": embed_layer_normalization,
    "GroupNorm": group_normalization,
    "SkipGroupNorm": skip_group_normalization,
}
