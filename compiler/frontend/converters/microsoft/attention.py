"""Attention of BERT- and GPT-like models, with its projection or after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.converters import linear
from motet.compiler.frontend.converters.attention import (
    after_past,
    attended,
    default_scale,
    join_heads,
    scores,
    split_heads,
)
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import simplify

from .masks import causal_bias, mask_bias, total_bias, without_later
from .views import plain


@dataclass(frozen=True)
class _Heads:
    """Query, and keys and values with the past before them, ``[B, N, length, size]``."""

    query: relax.Expr
    key: relax.Expr
    value: relax.Expr


def _run(node: Node, heads: _Heads, mask: int, bias: int) -> tuple[relax.Expr, relax.Expr]:
    """The output ``[B, S, N * H]`` and the biased scores; mask, bias: numbers of the inputs."""
    batch, _, new, size = node.shape(heads.query)
    total = node.shape(heads.key)[2]
    offset = simplify(total - new)
    masked = mask_bias(node, mask, batch, new, total, offset)
    if node.attr("unidirectional", 0):
        masked = without_later(node, masked, causal_bias(node, new, total, offset))
    biases = [masked]
    if node.has(bias):
        biases.append(node.x(bias))
    weights = scores(node, heads.query, heads.key, default_scale(node, size))
    result, biased = attended(node, weights, total_bias(node, biases), heads.value)
    return join_heads(node, result), biased


def attention(node: Node) -> list[relax.Expr]:
    """``Attention``: one projection to query, key and value, then attention; the new past."""
    for name in ("do_rotary", "past_present_share_buffer"):
        if node.attr(name, 0):
            node.refuse(f"{name} = 1")
    heads = int(node.attr("num_heads"))
    query, key, value = (split_heads(node, x, heads) for x in _projected(node))
    if node.has(4):
        pasts = node.emit(relax.op.split(node.x(4), 2, 0))
        pair = [node.emit(relax.TupleGetItem(pasts, i)) for i in range(2)]
        pair = [node.emit(relax.op.squeeze(p, [0])) for p in pair]
        key, value = (after_past(node, p, x) for p, x in zip(pair, (key, value), strict=True))
    outputs = [_run(node, _Heads(query, key, value), 3, 5)[0]]
    if node.outputs > 1:
        outputs.append(relax.op.stack([key, value], 0))
    return outputs


def _projected(node: Node) -> list[relax.Expr]:
    """Query, key and value, each ``[B, S, hidden]``."""
    width = node.static(node.shape(node.x(1))[1:], "the hidden size of attention")[0]
    sizes = list(node.attr("qkv_hidden_sizes") or [width // 3] * 3)
    if len(sizes) != 3 or sum(sizes) != width:
        node.refuse(f"qkv_hidden_sizes {sizes} for weights of {width} columns")
    product = linear.mat_mul(plain(node, "MatMul", node.inputs[:2], 13))
    if node.has(2):
        product = relax.op.add(node.emit(product), node.x(2))
    return _parts(node, node.emit(product), sizes)


def _parts(node: Node, x: relax.Expr, sizes: list[int]) -> list[relax.Expr]:
    """``x`` cut along its last axis."""
    cuts = [int(c) for c in np.cumsum(sizes)[:-1]]
    parts = node.emit(relax.op.split(x, cuts, node.rank(x) - 1))
    return [node.emit(relax.TupleGetItem(parts, i)) for i in range(len(sizes))]


def multi_head_attention(node: Node) -> list[relax.Expr]:
    """``MultiHeadAttention`` after the projections, which may be packed; the new past.

    The fourth output is the biased scores before the softmax, as onnxruntime has it.
    """
    for index, name in ((8, "past_sequence_length (a shared buffer)"), (9, "cache_indirection")):
        if node.has(index):
            node.refuse(f"its input {name}")
    query, key, value = _separate(node)
    if node.has(6) != node.has(7):
        node.refuse("a past of keys without one of values, or the other way round")
    if node.has(6):
        key, value = after_past(node, node.x(6), key), after_past(node, node.x(7), value)
    result, biased = _run(node, _Heads(query, key, value), 4, 5)
    return [result, key, value, biased][: node.outputs]


def _separate(node: Node) -> list[relax.Expr]:
    """Query, key and value ``[B, N, length, size]``, with their bias."""
    heads = int(node.attr("num_heads"))
    if not node.has(1):
        return [_biased(node, x, i, heads) for i, x in enumerate(_unpacked(node, 0, 3))]
    query = _biased(node, node.x(), 0, heads)
    if not node.has(2):
        pair = _unpacked(node, 1, 2)
        return [query, *(_biased(node, x, i + 1, heads) for i, x in enumerate(pair))]
    if node.rank(node.x(1)) == 4:  # the past of a cross attention: projected long ago
        return [query, node.x(1), node.x(2)]
    return [query, *(_biased(node, node.x(i), i, heads) for i in (1, 2))]


def _unpacked(node: Node, index: int, count: int) -> list[relax.Expr]:
    """Input ``[B, S, N, count, H]`` as ``count`` tensors ``[B, S, N * H]``."""
    x = node.x(index)
    if node.rank(x) != 5:
        node.refuse(f"input {index} of rank {node.rank(x)} without the inputs that go with it")
    batch, length, heads, _, size = node.shape(x)
    parts = node.emit(relax.op.split(x, count, 3))
    shape = relax.ShapeExpr([batch, length, heads * size])
    return [
        node.emit(relax.op.reshape(node.emit(relax.TupleGetItem(parts, i)), shape))
        for i in range(count)
    ]


def _biased(node: Node, x: relax.Expr, part: int, heads: int) -> relax.Expr:
    """``x`` plus its part of the bias, split into heads."""
    if node.has(3):
        own = node.static(node.shape(x)[2:], "the hidden size of attention")[0]
        whole = node.static(node.shape(node.x(3)), "the bias of attention")[0]
        begin = {0: 0, 1: own, 2: whole - own}[part]
        bias = relax.op.strided_slice(node.x(3), [0], [begin], [begin + own])
        x = node.emit(relax.op.add(x, node.emit(bias)))
    return split_heads(node, x, heads)


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "Attention": attention,
    "MultiHeadAttention": multi_head_attention,
}
