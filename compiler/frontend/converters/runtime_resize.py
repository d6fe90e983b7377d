"""Resize of a symbolic axis: coordinates and weights computed at run time, by ONNX's formulas.

The same separable scheme as ``interpolation``, whose matrices need static extents: every
output cell has a coordinate of the input; nearest takes one cell, linear two, cubic four.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import Dim, constant, counted, shape_value

_DOUBLE = "float64"


def resized(
    node: Node, x: relax.Expr, number: int, sizes: tuple[Dim, Dim], scale: float | None,
    mode: str, coordinate: str, rounding: str,
) -> relax.Expr:  # fmt: skip
    """``x`` with axis ``number`` resized from ``sizes[0]`` to ``sizes[1]`` cells.

    ``scale`` is the factor that the node states; None where it states sizes.
    """
    extent, output = (_double(node, size) for size in sizes)
    factor = node.emit(relax.op.divide(output, extent)) if scale is None else _number(scale)
    places = _coordinates(node, sizes[1], extent, output, factor, coordinate)
    last = node.emit(relax.op.subtract(extent, _number(1)))
    if mode == "nearest":
        return _taken(node, x, number, _rounded(places, rounding), last)
    if mode == "linear":
        places = node.emit(relax.op.minimum(relax.op.maximum(places, _number(0)), last))
    base = node.emit(relax.op.floor(places))
    part = node.emit(relax.op.subtract(places, base))
    total: relax.Expr | None = None
    for step, weight in _weights(part, mode, float(node.attr("cubic_coeff_a", -0.75))):
        cells = _taken(node, x, number, relax.op.add(base, _number(step)), last)
        term = relax.op.multiply(cells, _along(node, x, number, weight))
        total = node.emit(term if total is None else relax.op.add(total, term))
    assert total is not None
    return total


def _number(value: float) -> relax.Expr:
    return constant(np.array(value, _DOUBLE))


def _double(node: Node, dim: Dim) -> relax.Expr:
    """A dimension as a float64 scalar."""
    return node.emit(relax.op.astype(node.tensor(shape_value([dim], scalar=True)), _DOUBLE))


def _coordinates(
    node: Node, count: Dim, extent: Any, output: Any, scale: Any, mode: str
) -> relax.Expr:
    """Input coordinate of every output cell, float64 ``[count]``."""
    op = relax.op
    i = node.emit(op.astype(counted(count), _DOUBLE))
    if mode == "asymmetric":
        return node.emit(op.divide(i, scale))
    if mode == "tf_half_pixel_for_nn":
        return node.emit(op.divide(op.add(i, _number(0.5)), scale))
    if mode == "align_corners":
        spans = op.maximum(op.subtract(output, _number(1)), _number(1))
        return node.emit(op.divide(op.multiply(i, op.subtract(extent, _number(1))), spans))
    half = op.subtract(op.divide(op.add(i, _number(0.5)), scale), _number(0.5))
    if mode == "half_pixel":
        return node.emit(half)
    if mode == "pytorch_half_pixel":
        return node.emit(op.where(op.greater(output, _number(1)), half, _number(0)))
    return node.refuse(f"coordinates '{mode}' over a symbolic dimension", shape_value([count]))


def _rounded(places: relax.Expr, rounding: str) -> relax.Expr:
    op = relax.op
    if rounding == "floor":
        return op.floor(places)
    if rounding == "ceil":
        return op.ceil(places)
    if rounding == "round_prefer_ceil":
        return op.floor(op.add(places, _number(0.5)))
    return op.ceil(op.subtract(places, _number(0.5)))


def _taken(node: Node, x: relax.Expr, number: int, cells: Any, last: relax.Expr) -> relax.Expr:
    """The cells of ``x`` along an axis; those beyond an edge repeat it."""
    clipped = relax.op.minimum(relax.op.maximum(node.emit(cells), _number(0)), last)
    indices = node.emit(relax.op.astype(node.emit(clipped), "int64"))
    return node.emit(relax.op.take(x, indices, number, mode="clip"))


def _weights(part: relax.Expr, mode: str, a: float) -> list[tuple[int, relax.Expr]]:
    """Neighbours' steps from the base cell, and their weights at distance ``part`` of it."""
    op = relax.op
    rest = op.subtract(_number(1), part)
    if mode == "linear":
        return [(0, rest), (1, part)]
    # Keys' kernel: a d^3 - 5a d^2 + 8a d - 4a beyond 1, (a + 2) d^3 - (a + 3) d^2 + 1 within.
    far, near = (a, -5 * a, 8 * a, -4 * a), (a + 2, -(a + 3), 0.0, 1.0)
    one = _number(1)
    return [
        (-1, _polynomial(far, op.add(part, one))),
        (0, _polynomial(near, part)),
        (1, _polynomial(near, rest)),
        (2, _polynomial(far, op.add(rest, one))),
    ]


def _polynomial(coefficients: tuple[float, ...], x: relax.Expr) -> relax.Expr:
    result = _number(coefficients[0])
    for coefficient in coefficients[1:]:
        result = relax.op.add(relax.op.multiply(result, x), _number(coefficient))
    return result


def _along(node: Node, x: relax.Expr, number: int, weight: relax.Expr) -> relax.Expr:
    """Weights of an axis in the dtype of ``x``, shaped to be multiplied with it."""
    vector = node.emit(relax.op.astype(node.emit(weight), node.dtype(x)))
    after = node.rank(x) - 1 - number
    return node.emit(relax.op.expand_dims(vector, list(range(1, after + 1)))) if after else vector
