"""Rotary position embeddings: pairs of a head's numbers, turned by an angle of the position."""

from __future__ import annotations

from tvm import relax

from motet.compiler.frontend.node import Node


def rotated(
    node: Node, x: relax.Expr, cos: relax.Expr, sin: relax.Expr, interleaved: bool
) -> relax.Expr:
    """``x``, whose last axis holds a head, with its first ``R`` numbers turned.

    cos, sin: broadcast to ``x`` but for their last axis of ``R / 2``. interleaved: the pairs
    are neighbours, else the first and second half of the ``R``.
    """
    axis = node.rank(x) - 1
    size, half = (node.static(node.shape(e)[-1:], "the head size")[0] for e in (x, cos))
    turned = x if 2 * half == size else _cut(node, x, 0, 2 * half)
    if interleaved:
        result = _neighbours(node, turned, cos, sin, half)
    else:
        parts = node.emit(relax.op.split(turned, 2, axis))
        a, b = (node.emit(relax.TupleGetItem(parts, i)) for i in range(2))
        result = node.emit(relax.op.concat(_turned(node, a, b, cos, sin), axis))
    if 2 * half == size:
        return result
    return node.emit(relax.op.concat([result, _cut(node, x, 2 * half, size)], axis))


def _cut(node: Node, x: relax.Expr, begin: int, end: int) -> relax.Expr:
    return node.emit(relax.op.strided_slice(x, [node.rank(x) - 1], [begin], [end]))


def _turned(
    node: Node, a: relax.Expr, b: relax.Expr, cos: relax.Expr, sin: relax.Expr
) -> list[relax.Expr]:
    """``a cos - b sin`` and ``a sin + b cos``."""
    real = relax.op.subtract(relax.op.multiply(a, cos), relax.op.multiply(b, sin))
    imaginary = relax.op.add(relax.op.multiply(a, sin), relax.op.multiply(b, cos))
    return [node.emit(real), node.emit(imaginary)]


def _neighbours(
    node: Node, x: relax.Expr, cos: relax.Expr, sin: relax.Expr, half: int
) -> relax.Expr:
    dims = list(node.shape(x))
    pairs = node.emit(relax.op.reshape(x, relax.ShapeExpr([*dims[:-1], half, 2])))
    parts = node.emit(relax.op.split(pairs, 2, len(dims)))
    flat = relax.ShapeExpr([*dims[:-1], half])
    a, b = (
        node.emit(relax.op.reshape(node.emit(relax.TupleGetItem(parts, i)), flat)) for i in range(2)
    )
    joined = node.emit(relax.op.stack(_turned(node, a, b, cos, sin), len(dims)))
    return node.emit(relax.op.reshape(joined, relax.ShapeExpr(dims)))


def angles(node: Node, cache: relax.Expr, positions: relax.Expr, heads_axis: int) -> relax.Expr:
    """Rows of ``cache [max, R / 2]`` at ``positions [B, S]``, with an axis for the heads."""
    rows = node.emit(relax.op.take(cache, positions, 0, mode="clip"))
    return node.emit(relax.op.expand_dims(rows, heads_axis))
