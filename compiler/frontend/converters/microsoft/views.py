"""A fused operator as the plain ones that it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import Tensor, Value


def plain(
    node: Node,
    op_type: str,
    inputs: Sequence[Value | relax.Expr | None],
    opset: int,
    outputs: int = 1,
    **attributes: Any,
) -> Node:
    """A node of the default domain on ``inputs``, for the converter of ``op_type``.

    Attributes that are None are left out.
    """
    given = {name: value for name, value in attributes.items() if value is not None}
    values = [_value(node, x) for x in inputs]
    return Node(node.builder, op_type, opset, given, values, outputs)


def _value(node: Node, x: Value | relax.Expr | None) -> Value | None:
    if isinstance(x, relax.Expr):
        return Tensor(node.emit(x))
    return x


def optional(node: Node, index: int) -> Value | None:
    """Input ``index``; None where it was left out."""
    return node.value(index) if node.has(index) else None
