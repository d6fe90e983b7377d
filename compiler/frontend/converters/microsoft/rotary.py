"""RotaryEmbedding of the ``com.microsoft`` domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import relax

from motet.compiler.frontend.converters.rotary import angles, rotated
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import Dim, counted


def positions(node: Node, given: relax.Expr, length: Dim) -> relax.Expr:
    """``[B, S]``: what is given, or as many from the one number ``[1]`` that is given."""
    if node.rank(given) == 2:
        return given
    places = node.emit(relax.op.add(node.emit(counted(length)), given))
    return node.emit(relax.op.expand_dims(places, 0))


def rotary_embedding(node: Node) -> relax.Expr:
    """``RotaryEmbedding`` of ``[B, S, N * H]`` or ``[B, N, S, H]``."""
    for name, default in (("is_packed_batching", 0), ("scale", 1.0)):
        if node.attr(name, default) != default:
            node.refuse(f"{name} = {node.attr(name)}")
    x, dims, interleaved = node.x(), list(node.shape()), bool(node.attr("interleaved", 0))
    if len(dims) == 4:
        places = positions(node, node.x(1), dims[2])
        cos, sin = (angles(node, node.x(i), places, 1) for i in (2, 3))
        return rotated(node, x, cos, sin, interleaved)
    heads = _heads(node, dims[2])
    x = relax.op.reshape(x, relax.ShapeExpr([*dims[:2], heads, dims[2] // heads]))
    places = positions(node, node.x(1), dims[1])
    cos, sin = (angles(node, node.x(i), places, 2) for i in (2, 3))
    result = rotated(node, node.emit(x), cos, sin, interleaved)
    return relax.op.reshape(result, relax.ShapeExpr(dims))


def _heads(node: Node, width: Dim) -> int:
    """The number of heads: the attribute, or what the angles' table leaves for it."""
    width, half = node.static([width, node.shape(node.x(2))[1]], "the hidden size of attention")
    given = int(node.attr("num_heads", 0))
    if node.attr("rotary_embedding_dim", 0) and not given:
        node.refuse("rotary_embedding_dim without num_heads")
    heads = given or width // (2 * half)
    if heads < 1 or width % heads:
        node.refuse(f"a hidden size of {width} for {heads} heads")
    return heads


CONVERTERS: dict[str, Callable[[Node], Any]] = {"RotaryEmbedding": rotary_embedding}
