"""ONNX sequences and optionals: lists and absences at import, of which nothing is left to run.

A sequence is the list of its values, so its length is known; a position must be too. An
optional with a value is that value; an empty one keeps its type only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from tvm import relax

from motet.compiler.frontend import joining
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import same
from motet.compiler.frontend.types import dtype_of, numpy_name
from motet.compiler.frontend.values import Constant, EmptyOptional, TensorSequence, Value


def _position(node: Node, index: int, default: int, length: int, end: int) -> int:
    """A position made non-negative; refuses one outside ``-length`` to ``end``."""
    if not node.has(index):
        return default
    position = int(node.needed_constant(index, "position").reshape(()))
    if not -length <= position <= end:
        node.refuse(f"position {position} in a sequence of {length}")
    return position + length if position < 0 else position


def construct(node: Node) -> Value:
    """SequenceConstruct."""
    items = tuple(node.value(i) for i in range(len(node.inputs)))
    _check_tensors(node, items)
    dtypes = sorted({dtype_of(item) for item in items})
    if len(dtypes) != 1:
        node.refuse(f"items of the types {' and '.join(dtypes)}")
    return TensorSequence(items, dtypes[0])


def _check_tensors(node: Node, items: tuple[Value, ...]) -> None:
    if any(isinstance(item, (TensorSequence, EmptyOptional)) for item in items):
        node.refuse("a sequence of other values than tensors")


def empty(node: Node) -> Value:
    """SequenceEmpty, of float32 by default."""
    return TensorSequence((), numpy_name(int(node.attr("dtype", onnx.TensorProto.FLOAT))))


def at(node: Node) -> Value | relax.Expr:
    """SequenceAt; of items of one shape, at a position that the run may compute."""
    items = node.sequence().items
    if node.has(1) and node.constant(1) is None and items:
        tensors = [node.tensor(item) for item in items]
        shapes = [node.shape(tensor) for tensor in tensors]
        if all(len(s) == len(shapes[0]) and all(map(same, s, shapes[0])) for s in shapes):
            whole = joining.stacked(node, tensors, 0)
            position = node.emit(relax.op.reshape(node.x(1), []))
            return relax.op.take(whole, position, 0, mode="wrap")
    return items[_position(node, 1, 0, len(items), len(items) - 1)]


def insert(node: Node) -> Value:
    """SequenceInsert, at the end by default."""
    sequence, value = node.sequence(), node.value(1)
    _check_tensors(node, (value,))
    if dtype_of(value) != sequence.dtype:
        node.refuse(f"a {dtype_of(value)} item in a sequence of {sequence.dtype}")
    items = list(sequence.items)
    items.insert(_position(node, 2, len(items), len(items), len(items)), value)
    return TensorSequence(tuple(items), sequence.dtype)


def erase(node: Node) -> Value:
    """SequenceErase, of the last item by default."""
    sequence = node.sequence()
    items = list(sequence.items)
    if not items:
        node.refuse("an item of an empty sequence is erased")
    del items[_position(node, 1, -1, len(items), len(items) - 1)]
    return TensorSequence(tuple(items), sequence.dtype)


def length(node: Node) -> Value:
    """SequenceLength."""
    return Constant(np.array(len(node.sequence().items), np.int64))


def concat(node: Node) -> Value | relax.Expr:
    """ConcatFromSequence, along an axis or a new one."""
    items, axis = node.sequence().items, int(node.attr("axis"))
    if not items:
        node.refuse("an empty sequence has nothing to concatenate")
    stack = bool(node.attr("new_axis", 0))
    if all(isinstance(item, Constant) for item in items):
        arrays = [item.array for item in items if isinstance(item, Constant)]
        return Constant((np.stack if stack else np.concatenate)(arrays, axis))
    tensors = [node.tensor(item) for item in items]
    return (joining.stacked if stack else joining.concatenated)(node, tensors, axis)


def split(node: Node) -> Value:
    """SplitToSequence into chunks, given sizes, or single slices (with or without the axis)."""
    axis, x = node.axis(0), node.x()
    sizes = node.needed_constant(1, "split") if node.has(1) else np.array(1)
    if sizes.ndim == 1:  # which says the extent too; the run checks a symbolic one
        dims = list(node.shape())
        if not isinstance(dims[axis], int):
            dims[axis] = int(sizes.sum())
            x = node.builder.match_cast(x, relax.TensorType(dims, node.dtype()))
    extent = node.static([node.shape(x)[axis]], "a split dimension")[0]
    if sizes.ndim == 0:
        chunk = int(sizes)
        if chunk <= 0:
            node.refuse(f"chunks of {chunk}")
        sizes = np.diff([*range(0, extent, chunk), extent])
    if int(sizes.sum()) != extent or (sizes < 0).any():
        node.refuse(f"parts of {sizes.tolist()} in an axis of {extent}")
    items = _parts(node, x, [int(size) for size in sizes], axis)
    if not node.has(1) and not node.attr("keepdims", 1):
        items = [node.emit(relax.op.squeeze(item, [axis])) for item in items]
    return TensorSequence(tuple(map(node.bound, items)), node.dtype())


def _parts(node: Node, x: relax.Expr, sizes: list[int], axis: int) -> list[relax.Expr]:
    if len(sizes) == 1:
        return [x]
    if not sizes:
        return []
    cuts = [int(c) for c in np.cumsum(sizes)[:-1]]
    parts = node.emit(relax.op.split(x, cuts, axis))
    return [node.emit(relax.TupleGetItem(parts, i)) for i in range(len(sizes))]


def optional(node: Node) -> Value:
    """Optional: its value, or nothing of a type."""
    if node.has(0):
        return node.value(0)
    if node.attr("type") is None:
        node.refuse("an Optional without a value needs the attribute type")
    return EmptyOptional(node.attr("type"))


def has_element(node: Node) -> Value:
    """OptionalHasElement."""
    held = node.has(0) and not isinstance(node.value(0), EmptyOptional)
    return Constant(np.array(held))


def get_element(node: Node) -> Value:
    """OptionalGetElement."""
    value = node.value(0)
    if isinstance(value, EmptyOptional):
        node.refuse("the optional is empty")
    return value


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "SequenceConstruct": construct,
    "SequenceEmpty": empty,
    "SequenceAt": at,
    "SequenceInsert": insert,
    "SequenceErase": erase,
    "SequenceLength": length,
    "ConcatFromSequence": concat,
    "SplitToSequence": split,
    "Optional": optional,
    "OptionalHasElement": has_element,
    "OptionalGetElement": get_element,
}
