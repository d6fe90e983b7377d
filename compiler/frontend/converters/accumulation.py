"""Running sums and products, caches that are written in place, and weights of mel filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import Constant, constant, counted, shape_value


def _running(operator: Callable[..., Any]) -> Callable[[Node], Any]:
    """The converter of CumSum or CumProd along a constant axis."""

    def convert(node: Node) -> relax.Expr:
        """``reverse`` flips before and after."""
        axis = node.normal_axis(int(node.needed_constant(1, "axis").reshape(-1)[0]), node.rank())
        exclusive, x = bool(node.attr("exclusive", 0)), node.x()
        if not node.attr("reverse", 0):
            return operator(x, axis, node.dtype(), exclusive)
        return relax.op.flip(operator(relax.op.flip(x, axis), axis, node.dtype(), exclusive), axis)

    return convert


def tensor_scatter(node: Node) -> relax.Expr:
    """TensorScatter: rows of an update into a cache, from a place of each sample on.

    Written as a choice for every row of the cache: the update's row that belongs there, or
    what was there before. Rows beyond the cache are dropped, in mode ``circular`` they
    start again.
    """
    axis = node.axis(-2)
    capacity, length = node.shape()[axis], node.shape(node.x(1))[axis]
    rank, batch = node.rank(), node.shape()[0]
    along = [1] * rank
    row = node.emit(counted(capacity))
    row = node.emit(
        relax.op.reshape(row, relax.ShapeExpr([*along[:axis], capacity, *along[axis + 1 :]]))
    )
    if node.has(2):
        first = relax.op.astype(node.x(2), "int64")
        first = node.emit(relax.op.reshape(first, relax.ShapeExpr([batch, *along[1:]])))
        row = node.emit(relax.op.subtract(row, first))
    if node.attr("mode", "linear") == "circular":
        size = node.tensor(shape_value([capacity], scalar=True))
        row = node.emit(relax.op.floor_mod(row, size))
    count = node.tensor(shape_value([length], scalar=True))
    zero = node.scalar(0, "int64")
    fits = relax.op.logical_and(relax.op.greater_equal(row, zero), relax.op.less(row, count))
    fits = node.emit(fits)
    last = relax.op.subtract(count, node.scalar(1, "int64"))
    safe = relax.op.maximum(relax.op.minimum(row, last), zero)
    index = node.emit(relax.op.broadcast_to(safe, relax.ShapeExpr(list(node.shape()))))
    update = node.emit(relax.op.gather_elements(node.x(1), index, axis))
    return relax.op.where(fits, update, node.x())


def mel_weight_matrix(node: Node) -> Constant:
    """MelWeightMatrix: triangles on the mel scale, float [bins of the spectrum, mel bins]."""
    names = ("num_mel_bins", "dft_length", "sample_rate", "lower_edge_hertz", "upper_edge_hertz")
    numbers = [node.needed_constant(i, n).reshape(()).item() for i, n in enumerate(names)]
    bands, samples, rate, low, high = numbers
    spectrum = int(samples) // 2 + 1
    edges = 2595 * np.log10(1 + np.array([low, high]) / 700)
    mels = edges[0] + np.arange(int(bands) + 2) * (edges[1] - edges[0]) / (int(bands) + 2)
    hertz = 700 * (np.power(10, mels / 2595) - 1)
    cells = np.floor((int(samples) + 1) * hertz / rate).astype(np.int64)
    result = np.zeros((spectrum, int(bands)))
    for band in range(int(bands)):
        start, peak, end = cells[band : band + 3]
        rising = np.arange(start, peak + 1)
        result[rising, band] = (rising - start) / (peak - start) if peak > start else 1
        falling = np.arange(peak, end)
        if end > peak:
            result[falling, band] = (end - falling) / (end - peak)
    wanted = int(node.attr("output_datatype", onnx.TensorProto.FLOAT))
    return Constant(result.astype(onnx.helper.tensor_dtype_to_np_dtype(wanted)))


def determinant(node: Node) -> relax.Expr:
    """Det of square matrices, by elimination without a choice of pivots in symbols.

    Every step divides by the largest entry of its column, which a gather brings to the
    front (partial pivoting), so that the products stay of the matrix's own size.
    """
    *lead, rows, size = node.shape()
    rows, size = node.static([rows, size], "the size of its matrices")
    if rows != size:
        node.refuse(f"a matrix of {rows} x {size}, which is not square")
    one = node.scalar(1)
    result = node.emit(relax.op.full(relax.ShapeExpr(list(lead)), one, node.dtype()))
    matrix, axis = node.x(), len(lead)
    for left in range(size, 0, -1):
        column = node.emit(relax.op.strided_slice(matrix, [axis + 1], [0], [1]))
        best = node.emit(relax.op.argmax(relax.op.abs(column), axis, True))
        shape = relax.ShapeExpr([*lead, 1, left])
        pivot = node.emit(
            relax.op.gather_elements(matrix, node.emit(relax.op.broadcast_to(best, shape)), axis)
        )
        head = node.emit(relax.op.strided_slice(pivot, [axis + 1], [0], [1]))
        flat = node.emit(relax.op.reshape(head, relax.ShapeExpr(list(lead))))
        result = node.emit(relax.op.multiply(result, flat))
        if left == 1:
            break
        # The pivot's row changes places with the first one, which turns the sign.
        first = node.emit(relax.op.strided_slice(matrix, [axis], [0], [1]))
        places = constant(np.arange(left).reshape(*[1] * axis, left, 1))
        at_pivot = node.emit(relax.op.equal(places, best))
        swapped = node.emit(relax.op.where(at_pivot, first, matrix))
        moved = relax.op.reshape(
            relax.op.not_equal(best, node.scalar(0, "int64")), relax.ShapeExpr(list(lead))
        )
        sign = relax.op.where(node.emit(moved), node.scalar(-1), one)
        result = node.emit(relax.op.multiply(result, sign))
        rest = node.emit(relax.op.strided_slice(swapped, [axis], [1], [left]))
        below = node.emit(relax.op.strided_slice(rest, [axis + 1], [0], [1]))
        # A column of zeros makes the determinant 0; dividing by 1 there keeps it so.
        safe = relax.op.where(relax.op.equal(head, node.scalar(0)), one, head)
        share = node.emit(relax.op.divide(below, node.emit(safe)))
        reduced = node.emit(relax.op.subtract(rest, relax.op.multiply(share, pivot)))
        matrix = node.emit(relax.op.strided_slice(reduced, [axis + 1], [1], [left]))
    return result


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "CumProd": _running(relax.op.cumprod),
    "CumSum": _running(relax.op.cumsum),
    "TensorScatter": tensor_scatter,
    "MelWeightMatrix": mel_weight_matrix,
    "Det": determinant,
}
