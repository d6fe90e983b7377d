"""Scaled dot-product attention over heads, as products and a softmax that passes read."""

from __future__ import annotations

import numpy as np
from tvm import relax

from motet.compiler.frontend.completion import cast_to
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import product, same
from motet.compiler.frontend.values import Dim

from .agreeing import added


def split_heads(node: Node, x: relax.Expr, heads: int) -> relax.Expr:
    """``[B, S, N * H]`` as ``[B, N, S, H]``."""
    batch, length, width = node.shape(x)
    size = node.static([width], "the hidden size of attention")[0]
    if size % heads:
        node.refuse(f"a hidden size of {size} for {heads} heads")
    apart = relax.op.reshape(x, relax.ShapeExpr([batch, length, heads, size // heads]))
    return node.emit(relax.op.permute_dims(node.emit(apart), [0, 2, 1, 3]))


def join_heads(node: Node, x: relax.Expr) -> relax.Expr:
    """``[B, N, S, H]`` as ``[B, S, N * H]``."""
    batch, heads, length, size = node.shape(x)
    together = node.emit(relax.op.permute_dims(x, [0, 2, 1, 3]))
    return relax.op.reshape(together, relax.ShapeExpr([batch, length, product([heads, size])]))


def default_scale(node: Node, size: Dim) -> float:
    """Attribute ``scale``; 1 / sqrt(head size) where it is absent or 0."""
    scale = float(node.attr("scale", 0.0))
    return scale or 1.0 / float(np.sqrt(node.static([size], "the head size")[0]))


def _product(node: Node, a: relax.Expr, b: relax.Expr) -> relax.Expr:
    """``a b`` of ``[B, N, S, K]`` and ``[B, M, K, T]``: N / M heads in a row share one of b."""
    (batch, heads, length, depth), (_, groups, _, width) = node.shape(a), node.shape(b)
    b = cast_to(node, b, [batch, groups, depth, width])
    if same(heads, groups):
        return node.emit(relax.op.matmul(a, b))
    rows = product([node.static([heads], "the number of heads")[0] // groups, length])
    tall = node.emit(relax.op.reshape(a, relax.ShapeExpr([batch, groups, rows, depth])))
    result = node.emit(relax.op.matmul(tall, b))
    return node.emit(relax.op.reshape(result, relax.ShapeExpr([batch, heads, length, width])))


def scores(
    node: Node, query: relax.Expr, key: relax.Expr, scale: float, cap: float = 0.0
) -> relax.Expr:
    """``scale query key^T``, ``[B, N, S, T]``; beyond ``cap``, where not 0, by a tanh.

    There may be fewer heads of keys, each for as many heads of queries in a row.
    """
    result = _product(node, query, node.emit(relax.op.permute_dims(key, [0, 1, 3, 2])))
    if scale != 1.0:
        result = node.emit(relax.op.multiply(result, node.scalar(scale)))
    if cap == 0.0:
        return result
    bent = relax.op.tanh(node.emit(relax.op.divide(result, node.scalar(cap))))
    return node.emit(relax.op.multiply(node.emit(bent), node.scalar(cap)))


def attended(
    node: Node,
    weights: relax.Expr,
    bias: relax.Expr | None,
    value: relax.Expr,
    sink: relax.Expr | None = None,
) -> tuple[relax.Expr, relax.Expr]:
    """``softmax(weights + bias) value``, and ``weights + bias``.

    sink: what each head ``[N]`` adds to the sum below the softmax, as an exponent.
    """
    if bias is not None:
        weights = added(node, weights, bias)
    chances = _softmax(node, weights, sink)
    return _product(node, chances, value), weights


def _softmax(node: Node, weights: relax.Expr, sink: relax.Expr | None) -> relax.Expr:
    if sink is None:
        return node.emit(relax.op.nn.softmax(weights, -1))
    batch, heads, length, total = node.shape(weights)
    column = node.emit(relax.op.reshape(sink, [1, heads, 1, 1]))
    column = relax.op.broadcast_to(column, relax.ShapeExpr([batch, heads, length, 1]))
    joined = node.emit(relax.op.concat([weights, node.emit(column)], 3))
    chances = node.emit(relax.op.nn.softmax(joined, -1))
    return node.emit(relax.op.strided_slice(chances, [3], [0], [total]))


def after_past(node: Node, past: relax.Expr | None, new: relax.Expr) -> relax.Expr:
    """``[B, N, P, H]`` and ``[B, N, S, H]`` as ``[B, N, P + S, H]``."""
    if past is None:
        return new
    return node.emit(relax.op.concat([past, new], 2))
