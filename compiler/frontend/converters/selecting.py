"""Operators whose results have as many entries as the data says: NonZero, Compress, Unique."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend import late
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import product
from motet.compiler.frontend.values import Dim, constant, counted
from motet.targets.operators import selection

# Columns of an entry that Unique sorts by, one after the other.
_MAX_COMPARED = 64


def positions(node: Node, flags: relax.Expr, what: str = "count") -> tuple[relax.Expr, Dim]:
    """Where ``flags`` (bool) is true, int64 [rank, n], and the new dimension ``n``."""
    whole = node.emit(relax.op.astype(flags, "int64"))
    total = node.emit(relax.op.reshape(node.emit(relax.op.sum(whole)), [1]))
    (count,) = late.bind(node, total, [what])
    return node.emit(selection.nonzero(flags, count)), count


def truth(node: Node, x: relax.Expr) -> relax.Expr:
    """Whether each element is not zero."""
    if node.dtype(x) == "bool":
        return x
    return node.emit(relax.op.not_equal(x, node.scalar(0, node.dtype(x))))


def nonzero(node: Node) -> relax.Expr:
    """NonZero: a scalar is taken for a vector of one element."""
    x = node.x()
    if node.rank(x) == 0:
        x = node.emit(relax.op.reshape(x, [1]))
    found, _ = positions(node, truth(node, x))
    return found


def compress(node: Node) -> relax.Expr:
    """Compress: the entries of an axis, or of the flat tensor, whose flag is true."""
    x = node.x()
    axis = node.attr("axis")
    if axis is None:
        x, axis = late.reshaped(node, x, [product(node.shape(x))]), 0
    found, count = positions(node, node.x(1))
    places = node.emit(relax.op.reshape(found, (count,)))
    return relax.op.take(x, places, node.normal_axis(int(axis), node.rank(x)), mode="clip")


def unique(node: Node) -> list[relax.Expr]:
    """Unique of all elements, or of what lies along an axis, compared from its first element on.

    Gives the unique entries, where each is first, which of them each entry is, and how often
    each comes. The entries are sorted; those that differ from the one before are unique.
    """
    rows, dims = _rows(node)
    size = dims[0]
    if isinstance(size, int) and size == 0:
        return [
            late.reshaped(node, node.x(), [0]) if node.attr("axis") is None else node.x(),
            *(relax.op.zeros((0,), "int64") for _ in range(3)),
        ]
    order = _order(node, rows)
    ascending = _taken(node, rows, order)
    places, one = node.emit(counted(size)), late.number(node, 1)
    before = node.emit(relax.op.subtract(places, one))
    before = node.emit(relax.op.maximum(before, late.number(node, 0)))
    differs = node.emit(relax.op.not_equal(ascending, _taken(node, ascending, before)))
    differs = node.emit(relax.op.max(node.emit(relax.op.astype(differs, "int64")), axis=1))
    begins = node.emit(relax.op.astype(node.emit(relax.op.less(places, one)), "int64"))
    is_new = node.emit(relax.op.maximum(differs, begins))
    found, count = positions(node, node.emit(relax.op.astype(is_new, "bool")))
    starts = node.emit(relax.op.reshape(found, (count,)))
    group = node.emit(relax.op.cumsum(is_new, 0, "int64"))
    group = node.emit(relax.op.subtract(group, one))
    blank = node.emit(relax.op.zeros(relax.ShapeExpr([size]), "int64"))
    inverse = node.emit(relax.op.scatter_elements(blank, order, group, 0))
    first, often = _taken(node, order, starts), _gaps(node, starts, size, count)
    if not node.attr("sorted", 1):
        again = node.emit(relax.op.argsort(first, 0, False, "int64"))
        ranks = node.emit(relax.op.argsort(again, 0, False, "int64"))
        inverse = _taken(node, ranks, inverse)
        first, often = _taken(node, first, again), _taken(node, often, again)
    if node.attr("axis") is None:
        values = _taken(node, late.reshaped(node, node.x(), [size]), first)
    else:
        values = node.emit(relax.op.take(node.x(), first, node.axis(), mode="clip"))
    return [values, first, inverse, often]


def _rows(node: Node) -> tuple[relax.Expr, list[Dim]]:
    """What is compared, one entry a row, and the shape of it; a row has a known length."""
    dims = list(node.shape())
    if node.attr("axis") is None:
        dims = [product(dims), 1]
        return late.reshaped(node, node.x(), dims), dims
    axis = node.axis()
    rest = [d for i, d in enumerate(dims) if i != axis]
    length = product(node.static(rest, "what lies along the axis of unique entries"))
    if length > _MAX_COMPARED or length == 0:
        node.refuse(f"unique entries of {length} elements: 1 to {_MAX_COMPARED} are compared")
    order = [axis, *(i for i in range(len(dims)) if i != axis)]
    turned = node.emit(relax.op.permute_dims(node.x(), order))
    dims = [dims[axis], length]
    return late.reshaped(node, turned, dims), dims


def _order(node: Node, rows: relax.Expr) -> relax.Expr:
    """The rows in lexicographic order: sorted by each column, from the last to the first."""
    order = None
    for column in reversed(range(node.shape(rows)[1])):
        keys = node.emit(relax.op.strided_slice(rows, [1], [column], [column + 1]))
        keys = node.emit(relax.op.reshape(keys, relax.ShapeExpr([node.shape(rows)[0]])))
        keys = keys if order is None else _taken(node, keys, order)
        step = node.emit(relax.op.argsort(keys, 0, False, "int64"))
        order = step if order is None else _taken(node, order, step)
    return order


def _taken(node: Node, x: relax.Expr, places: relax.Expr) -> relax.Expr:
    return node.emit(relax.op.take(x, places, 0, mode="clip"))


def _gaps(node: Node, starts: relax.Expr, size: Dim, count: Dim) -> relax.Expr:
    """How far each start is from the next one, the last from ``size``."""
    end = constant(np.array([size])) if isinstance(size, int) else late.as_vector(node, [size])
    ends = node.emit(relax.op.concat([starts, end], 0))
    after = node.emit(relax.op.add(node.emit(counted(count)), late.number(node, 1)))
    return node.emit(relax.op.subtract(_taken(node, ends, after), starts))


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "NonZero": nonzero,
    "Compress": compress,
    "Unique": unique,
}
