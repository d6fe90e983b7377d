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
from motet.passes import selection


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
    """Unique of all elements: values, where each is first, which each one is, how often.

    The elements are sorted; those that differ from the one before are the unique ones.
    """
    dims = node.shape()
    if node.attr("axis") is not None and len(dims) != 1:
        node.refuse("unique slices along an axis: only unique elements are supported")
    size = product(dims)
    if isinstance(size, int) and size == 0:
        return [relax.op.zeros((0,), t) for t in (node.dtype(), "int64", "int64", "int64")]
    x = late.reshaped(node, node.x(), [size])
    order = node.emit(relax.op.argsort(x, 0, False, "int64"))
    ascending = _taken(node, x, order)
    places, one = node.emit(counted(size)), late.number(node, 1)
    before = node.emit(relax.op.maximum(node.emit(relax.op.subtract(places, one)),
                                        late.number(node, 0)))  # fmt: skip
    differs = node.emit(relax.op.not_equal(ascending, _taken(node, ascending, before)))
    begins = node.emit(relax.op.less(places, one))
    is_new = node.emit(relax.op.logical_or(differs, begins))
    found, count = positions(node, is_new)
    starts = node.emit(relax.op.reshape(found, (count,)))
    group = node.emit(relax.op.cumsum(node.emit(relax.op.astype(is_new, "int64")), 0, "int64"))
    group = node.emit(relax.op.subtract(group, one))
    blank = node.emit(relax.op.zeros(relax.ShapeExpr([size]), "int64"))
    inverse = node.emit(relax.op.scatter_elements(blank, order, group, 0))
    values, first = _taken(node, ascending, starts), _taken(node, order, starts)
    often = _gaps(node, starts, size, count)
    if node.attr("sorted", 1):
        return [values, first, inverse, often]
    again = node.emit(relax.op.argsort(first, 0, False, "int64"))
    ranks = node.emit(relax.op.argsort(again, 0, False, "int64"))
    return [*(_taken(node, v, again) for v in (values, first)), _taken(node, ranks, inverse),
            _taken(node, often, again)]  # fmt: skip


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
