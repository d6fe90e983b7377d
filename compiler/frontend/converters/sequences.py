"""ONNX sequences of known length: tuples that exist at import only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import Constant, Tensor, Value


def _items(node: Node) -> list[relax.Expr]:
    value = node.value(0)
    if not isinstance(value, Tensor) or not isinstance(value.expr, relax.Tuple):
        node.refuse("a sequence whose length is only known at run time")
    return list(value.expr.fields)


def _sequence(node: Node, items: list[relax.Expr]) -> Value:
    return Tensor(relax.Tuple([node.emit(item) for item in items]))


def _position(node: Node, index: int, default: int) -> int:
    if not node.has(index):
        return default
    return int(node.needed_constant(index, "position").reshape(()))


def construct(node: Node) -> Value:
    """SequenceConstruct."""
    return _sequence(node, [node.x(i) for i in range(len(node.inputs))])


def at(node: Node) -> relax.Expr:
    """SequenceAt."""
    items, position = _items(node), _position(node, 1, 0)
    if not -len(items) <= position < len(items):
        node.refuse(f"position {position} in a sequence of {len(items)}")
    return items[position]


def insert(node: Node) -> Value:
    """SequenceInsert, at the end by default."""
    items = _items(node)
    position = _position(node, 2, len(items))
    items.insert(position, node.x(1))
    return _sequence(node, items)


def erase(node: Node) -> Value:
    """SequenceErase, of the last element by default."""
    items = _items(node)
    del items[_position(node, 1, -1)]
    return _sequence(node, items)


def length(node: Node) -> Value:
    """SequenceLength."""
    return Constant(np.array(len(_items(node)), np.int64))


def concat(node: Node) -> relax.Expr:
    """ConcatFromSequence, along an axis or a new one."""
    items, axis = _items(node), int(node.attr("axis"))
    return relax.op.stack(items, axis) if node.attr("new_axis", 0) else relax.op.concat(items, axis)


def split(node: Node) -> Value:
    """SplitToSequence into chunks, given sizes, or single slices."""
    axis = node.axis(0)
    extent = node.static([node.shape()[axis]], "a split dimension")[0]
    sizes = node.needed_constant(1, "split") if node.has(1) else np.array(1)
    if sizes.ndim == 0:
        chunk = int(sizes)
        cuts = list(range(chunk, extent, chunk))
    else:
        cuts = [int(c) for c in np.cumsum(sizes)[:-1]]
    parts = node.emit(relax.op.split(node.x(), cuts, axis)) if cuts else None
    count = len(cuts) + 1
    items = [node.emit(relax.TupleGetItem(parts, i)) for i in range(count)] if cuts else [node.x()]
    if not node.has(1) and not node.attr("keepdims", 1):
        items = [relax.op.squeeze(item, [axis]) for item in items]
    return _sequence(node, items)


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "SequenceConstruct": construct,
    "SequenceEmpty": lambda node: _sequence(node, []),
    "SequenceAt": at,
    "SequenceInsert": insert,
    "SequenceErase": erase,
    "SequenceLength": length,
    "ConcatFromSequence": concat,
    "SplitToSequence": split,
}
