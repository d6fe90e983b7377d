"""GroupQueryAttention: a few heads of keys for many of queries, with a cache.

Every sequence ``b`` of the batch has ``seqlens_k[b] + 1`` tokens with the new ones, so
``past[b] = max(seqlens_k[b] + 1 - S, 0)`` before them: none in a prompt, which may be
padded at its end. The new keys go there, into a cache as long as the past or, where that
is too short, as all tokens. So one rule covers a cache that grows and one of fixed length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, tirx

from motet.compiler.frontend.converters.attention import (
    attended,
    default_scale,
    join_heads,
    scores,
    split_heads,
)
from motet.compiler.frontend.converters.rotary import angles, rotated
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import product, same, simplify
from motet.compiler.frontend.values import Dim, as_expr, constant, counted, shape_value

from .masks import total_bias

_REFUSED = {
    "kv_cache_bit_width": (0, "a quantised cache"),
    "k_quant_type": ("NONE", "a quantised cache"),
    "v_quant_type": ("NONE", "a quantised cache"),
    "sliding_window_cache": (0, "sliding_window_cache = 1"),
}
_REFUSED_INPUTS = {12: "k_scale", 13: "v_scale", 14: "q_norm_weight", 15: "k_norm_weight"}


@dataclass(frozen=True)
class _Lengths:
    """Numbers of new tokens and of all, and the run-time number before the new, ``[B, 1]``."""

    batch: Dim
    new: Dim
    total: Dim
    past: relax.Expr


def group_query_attention(node: Node) -> list[relax.Expr]:
    """``GroupQueryAttention``, with rotary embedding where asked; the new cache."""
    _refuse_options(node)
    heads, groups = int(node.attr("num_heads")), int(node.attr("kv_num_heads"))
    query, key, value = _separate(node, heads, groups)
    lengths = _lengths(node, query)
    if node.attr("do_rotary", 0):
        query, key = _rotated(node, lengths, [query, key])
    present = [_cached(node, i, x, lengths) for i, x in ((3, key), (4, value))]
    key, value = (_used(node, x, lengths) for x in present)
    biases = [_mask(node, lengths, node.shape(key)[2]), node.x(10) if node.has(10) else None]
    size = node.shape(query)[3]
    weights = scores(node, query, key, default_scale(node, size), float(node.attr("softcap", 0.0)))
    result, _ = attended(node, weights, total_bias(node, biases), value, _sink(node, heads))
    return [join_heads(node, result), *present][: node.outputs]


def _refuse_options(node: Node) -> None:
    for name, (default, what) in _REFUSED.items():
        if node.attr(name, default) != default:
            node.refuse(what)
    for index, name in _REFUSED_INPUTS.items():
        if node.has(index):
            node.refuse(f"its input {name}")
    if node.outputs > 3 or node.attr("qk_output", 0):
        node.refuse("its output of scores (qk_output)")


def _separate(node: Node, heads: int, groups: int) -> list[relax.Expr]:
    """Query, key and value ``[B, heads, S, H]``; packed along the last axis without a key."""
    if node.has(1):
        parts = [node.x(i) for i in range(3)]
    else:
        width = node.static(node.shape()[2:], "the hidden size of attention")[0]
        size = width // (heads + 2 * groups)
        cuts = [heads * size, (heads + groups) * size]
        both = node.emit(relax.op.split(node.x(), cuts, 2))
        parts = [node.emit(relax.TupleGetItem(both, i)) for i in range(3)]
    counts = (heads, groups, groups)
    return [split_heads(node, x, n) for x, n in zip(parts, counts, strict=True)]


def _lengths(node: Node, query: relax.Expr) -> _Lengths:
    batch, _, new, _ = node.shape(query)
    if not node.has(3):
        return _Lengths(batch, new, new, constant(np.zeros((1, 1), np.int64)))
    total = node.dims(6, "total_sequence_length")[0]
    ends = node.emit(relax.op.astype(node.x(5), "int64"))
    column = node.emit(relax.op.reshape(ends, relax.ShapeExpr([batch, 1])))
    more = _number(node, simplify(1 - new))
    past = node.emit(relax.op.add(column, more))
    past = node.emit(relax.op.maximum(past, node.scalar(0, "int64")))
    return _Lengths(batch, new, total, past)


def _places(node: Node, lengths: _Lengths) -> relax.Expr:
    """Positions of the new tokens, ``[B or 1, S]``."""
    return node.emit(relax.op.add(lengths.past, node.emit(counted(lengths.new))))


def _rotated(node: Node, lengths: _Lengths, both: list[relax.Expr]) -> list[relax.Expr]:
    places = node.x(9) if node.has(9) else _places(node, lengths)
    cos, sin = (angles(node, node.x(i), places, 1) for i in (7, 8))
    interleaved = bool(node.attr("rotary_interleaved", 0))
    return [rotated(node, x, cos, sin, interleaved) for x in both]


def _cached(node: Node, index: int, new: relax.Expr, lengths: _Lengths) -> relax.Expr:
    """The cache (input ``index``) with the new rows ``[B, N, S, H]`` in it."""
    if not node.has(index):
        return new
    cache = node.x(index)
    if node.dtype(cache) != node.dtype():
        node.refuse(f"a cache of {node.dtype(cache)}")
    batch, heads, before, size = node.shape(cache)
    extent = _longer(before, lengths.total)
    rows = simplify(before + lengths.new)
    both = node.emit(relax.op.concat([cache, new], 2))
    flat = relax.op.reshape(both, relax.ShapeExpr([product([batch, heads, rows]), size]))
    source = _sources(node, lengths, before, extent)
    starts = node.emit(relax.op.multiply(counted(product([batch, heads])), _number(node, rows)))
    starts = node.emit(relax.op.reshape(starts, relax.ShapeExpr([batch, heads, 1])))
    places = node.emit(relax.op.add(starts, node.emit(relax.op.expand_dims(source, 1))))
    return node.emit(relax.op.take(node.emit(flat), places, 0, mode="clip"))


def _sources(node: Node, lengths: _Lengths, before: Dim, extent: Dim) -> relax.Expr:
    """For each row of the new cache, its place among the old and the new rows, ``[B, extent]``."""
    row = node.emit(relax.op.expand_dims(node.emit(counted(extent)), 0))
    later = node.emit(relax.op.subtract(row, lengths.past))
    fresh = relax.op.logical_and(
        relax.op.greater_equal(later, node.scalar(0, "int64")),
        relax.op.less(later, _number(node, lengths.new)),
    )
    shifted = relax.op.add(later, _number(node, before))
    return node.emit(relax.op.where(node.emit(fresh), node.emit(shifted), row))


def _number(node: Node, dim: Dim) -> relax.Expr:
    return node.tensor(shape_value([dim], scalar=True))


def _longer(before: Dim, total: Dim) -> Dim:
    """The length of the cache with the new tokens."""
    if isinstance(before, int) and isinstance(total, int):
        return max(before, total)
    return simplify(tirx.max(as_expr(before), as_expr(total)))


def _used(node: Node, cache: relax.Expr, lengths: _Lengths) -> relax.Expr:
    """The cache's rows that hold tokens."""
    if same(node.shape(cache)[2], lengths.total):
        return cache
    if not isinstance(lengths.total, int):
        if node.has(10):
            node.refuse("attention_bias beside a cache whose number of tokens is symbolic")
        return cache  # with what the mask hides
    return node.emit(relax.op.strided_slice(cache, [2], [0], [lengths.total]))


def _mask(node: Node, lengths: _Lengths, count: Dim) -> relax.Expr | None:
    """``[B or 1, 1, S, T]``: the lowest number where a query does not see a key."""
    window, causal = int(node.attr("local_window_size", -1)), int(node.attr("causal", 1))
    lowest = node.scalar(float(np.finfo(node.dtype()).min))
    keys = node.emit(counted(count))
    if not causal:
        ends = node.emit(relax.op.reshape(node.x(5), relax.ShapeExpr([lengths.batch, 1, 1, 1])))
        hidden = node.emit(relax.op.greater(keys, node.emit(relax.op.astype(ends, "int64"))))
        return node.emit(relax.op.where(hidden, lowest, node.scalar(0)))
    places = node.emit(relax.op.expand_dims(_places(node, lengths), [1, 3]))
    hidden = relax.op.greater(keys, places)
    if window > 0:
        first = node.emit(relax.op.subtract(places, node.scalar(window, "int64")))
        hidden = relax.op.logical_or(hidden, relax.op.less_equal(keys, first))
    return node.emit(relax.op.where(node.emit(hidden), lowest, node.scalar(0)))


def _sink(node: Node, heads: int) -> relax.Expr | None:
    """What each head adds below its softmax: given, or 1 for a smooth softmax."""
    if node.has(11):
        return node.x(11)
    if int(node.attr("smooth_softmax", -1)) == 1:
        return constant(np.zeros(heads, node.dtype()))
    return None


CONVERTERS: dict[str, Callable[[Node], Any]] = {"GroupQueryAttention": group_query_attention}
