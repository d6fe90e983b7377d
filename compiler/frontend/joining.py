"""Many tensors as one, a few at a time: a kernel of a thousand operands takes long to compile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax

from .node import Node

MAX_OPERANDS = 16


def stacked(node: Node, tensors: Sequence[relax.Expr], axis: int) -> relax.Expr:
    """Tensors of one shape along a new axis."""
    return concatenated(node, _joined(node, tensors, axis, relax.op.stack), axis)


def concatenated(node: Node, tensors: Sequence[relax.Expr], axis: int) -> relax.Expr:
    """Tensors along an axis that they have."""
    parts = list(tensors)
    while len(parts) > 1:
        parts = _joined(node, parts, axis, relax.op.concat)
    return parts[0]


def _joined(
    node: Node, tensors: Sequence[relax.Expr], axis: int, join: Callable[..., Any]
) -> list[relax.Expr]:
    return [
        node.emit(join(list(tensors[i : i + MAX_OPERANDS]), axis))
        for i in range(0, len(tensors), MAX_OPERANDS)
    ]
