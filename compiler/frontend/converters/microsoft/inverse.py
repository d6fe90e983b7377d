"""Inverse of small matrices, by Gauss and Jordan's elimination with row pivots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import product
from motet.compiler.frontend.values import constant

_MAX_ROWS = 16
"""Every row is a step of the program; larger matrices want a loop."""


def inverse(node: Node) -> relax.Expr:
    """``Inverse`` of matrices ``[..., n, n]``."""
    dims, dtype = list(node.shape()), node.dtype()
    rows, columns = node.static(dims[-2:], "the matrices of Inverse")
    if rows != columns or not 0 < rows <= _MAX_ROWS:
        node.refuse(f"a matrix of {rows} x {columns}: square ones of up to {_MAX_ROWS} rows")
    batch = product(dims[:-2])
    flat = node.emit(relax.op.reshape(node.x(), relax.ShapeExpr([batch, rows, rows])))
    wide = "float32" if dtype == "float16" else dtype
    work = flat if wide == dtype else node.emit(relax.op.astype(flat, wide))
    identity = constant(np.eye(rows, dtype=wide)[None])
    spread = relax.op.broadcast_to(identity, relax.ShapeExpr([batch, rows, rows]))
    both = node.emit(relax.op.concat([work, node.emit(spread)], 2))
    for step in range(rows):
        both = _eliminated(node, both, step, rows)
    result = node.emit(relax.op.strided_slice(both, [2], [rows], [2 * rows]))
    result = result if wide == dtype else node.emit(relax.op.astype(result, dtype))
    return relax.op.reshape(result, relax.ShapeExpr(dims))


def _eliminated(node: Node, both: relax.Expr, step: int, rows: int) -> relax.Expr:
    """One column cleared: the row with its largest number becomes row ``step``, divided by it.

    Rows are picked by sums with a row of one and zeros, which are exact.
    """
    dtype = node.dtype(both)
    column = node.emit(relax.op.strided_slice(both, [2], [step], [step + 1]))
    size = node.emit(relax.op.abs(column))
    below = constant((np.arange(rows) >= step).reshape(1, rows, 1))
    size = node.emit(relax.op.where(below, size, constant(np.array(-1, dtype))))
    place = node.emit(relax.op.argmax(size, 1, keepdims=True))
    number = constant(np.arange(rows, dtype=np.int64).reshape(1, rows, 1))
    chosen = node.emit(relax.op.equal(number, place))
    zero = constant(np.array(0, dtype))
    pivot = node.emit(relax.op.sum(relax.op.where(chosen, both, zero), [1], True))
    own = node.emit(relax.op.strided_slice(both, [1], [step], [step + 1]))
    swapped = node.emit(relax.op.where(chosen, own, both))
    head = node.emit(relax.op.strided_slice(pivot, [2], [step], [step + 1]))
    pivot = node.emit(relax.op.divide(pivot, head))
    factor = node.emit(relax.op.strided_slice(swapped, [2], [step], [step + 1]))
    rest = node.emit(relax.op.subtract(swapped, relax.op.multiply(factor, pivot)))
    here = constant((np.arange(rows) == step).reshape(1, rows, 1))
    return node.emit(relax.op.where(here, pivot, rest))


CONVERTERS: dict[str, Callable[[Node], Any]] = {"Inverse": inverse}
