"""Biases of attention from relative positions: T5's buckets, and WavLM's gated ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from motet.compiler.frontend.converters.attention import split_heads
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import constant


def relative_position_bias(node: Node) -> relax.Expr:
    """``RelativePositionBias``: a table's numbers by bucket, ``[1, heads, queries, keys]``."""
    lengths = [node.dims(i, "query and key lengths")[0] for i in (1, 2)]
    queries, keys = node.static(lengths, "query and key lengths")
    buckets = node.static(node.shape()[:1], "the number of buckets")[0]
    both = bool(node.attr("is_bidirectional", 0))
    places = np.arange(keys)[None, :] - np.arange(queries)[:, None]
    found = _buckets(places, buckets, int(node.attr("max_distance")), both)
    rows = node.emit(relax.op.take(node.x(), constant(found), 0, mode="clip"))
    return relax.op.expand_dims(node.emit(relax.op.permute_dims(rows, [2, 0, 1])), 0)


def _buckets(places: NDArray[Any], buckets: int, most: int, both: bool) -> NDArray[np.int64]:
    """T5's bucket of each distance (Raffel et al. 2020): single ones near, then by logarithm."""
    base = np.zeros(places.shape, np.int64)
    if both:
        buckets //= 2
        base = np.where(places > 0, buckets, 0)
        distance = np.abs(places)
    else:
        distance = np.maximum(-places, 0)
    single = buckets // 2
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(single))
    scaled = ratio / np.log(np.float32(most) / np.float32(single)) * (buckets - single)
    far = np.minimum(single + scaled.astype(np.int64), buckets - 1)
    return np.asarray(base + np.where(distance < single, distance, far), dtype=np.int64)


def gated_relative_position_bias(node: Node) -> relax.Expr:
    """``GatedRelativePositionBias``: a bias times gates that the queries open."""
    if node.has(6):
        node.refuse("its input token_offset (packed sequences)")
    query = node.emit(relax.op.add(node.x(), node.x(1)))
    heads = split_heads(node, query, int(node.attr("num_heads")))
    gates = node.emit(relax.op.add(node.emit(relax.op.matmul(heads, node.x(3))), node.x(4)))
    batch, count, length, width = node.shape(gates)
    width = node.static([width], "the width of the gates")[0]
    shape = relax.ShapeExpr([batch, count, length, 2, width // 2])
    pairs = node.emit(relax.op.sum(node.emit(relax.op.reshape(gates, shape)), [4]))
    parts = node.emit(relax.op.split(node.emit(relax.op.sigmoid(pairs)), 2, 3))
    update, reset = (node.emit(relax.TupleGetItem(parts, i)) for i in range(2))
    inner = relax.op.subtract(relax.op.multiply(reset, node.x(5)), node.scalar(1.0))
    gate = relax.op.add(relax.op.multiply(update, node.emit(inner)), node.scalar(2.0))
    return relax.op.multiply(node.emit(gate), node.x(2))


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "RelativePositionBias": relative_position_bias,
    "GatedRelativePositionBias": gated_relative_position_bias,
}
