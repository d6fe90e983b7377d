"""Masks of attention in the forms that onnxruntime documents, as biases of the scores.

A masked place gets ``mask_filter_value`` (-10000 unless the node says otherwise), a place
in the future the lowest number there is, as onnxruntime's CPU kernels have it.
"""

from __future__ import annotations

import numpy as np
from tvm import relax

from motet.compiler.frontend.converters.agreeing import added
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import same, simplify
from motet.compiler.frontend.values import Dim, constant, counted


def mask_bias(
    node: Node, index: int, batch: Dim, new: Dim, total: Dim, offset: Dim
) -> relax.Expr | None:
    """Mask input ``index`` as a bias that broadcasts to ``[B, N, new, total]``.

    new, total: number of queries and of keys. offset: keys before the first query.
    """
    if not node.has(index):
        return None
    mask = node.x(index)
    rank = node.rank(mask)
    if rank == 1:
        return _from_lengths(node, mask, batch, total)
    if rank == 2:
        shape = [batch, 1, 1, total]
    elif rank == 3:
        shape = [batch, 1, new, total]
    elif rank == 4:
        mask, shape = _megatron(node, mask, new, total, offset), [batch, 1, new, total]
    else:
        node.refuse(f"a mask of rank {rank}")
    kept = relax.op.greater(mask, node.scalar(0, node.dtype(mask)))
    return _filtered(node, relax.op.reshape(node.emit(kept), relax.ShapeExpr(shape)))


def _filtered(node: Node, kept: relax.Expr) -> relax.Expr:
    """0 where ``kept``, else the filter value."""
    lowest = float(np.finfo(node.dtype()).min)
    value = max(float(node.attr("mask_filter_value", -10000.0)), lowest)
    return node.emit(relax.op.where(node.emit(kept), node.scalar(0), node.scalar(value)))


def _from_lengths(node: Node, mask: relax.Expr, batch: Dim, total: Dim) -> relax.Expr:
    """Ends of the sequences ``[B]``, or ends and then starts ``[2 B]``."""
    extent = node.shape(mask)[0]
    if not same(extent, batch) and not same(extent, 2 * batch):
        node.refuse(f"a mask of {extent} numbers for a batch of {batch}")
    places = node.emit(relax.op.astype(node.emit(counted(total)), node.dtype(mask)))
    ends = node.emit(relax.op.strided_slice(mask, [0], [0], [batch]))
    column = relax.ShapeExpr([batch, 1])
    kept = relax.op.less(places, node.emit(relax.op.reshape(ends, column)))
    if not same(extent, batch):
        starts = node.emit(relax.op.strided_slice(mask, [0], [batch], [extent]))
        begun = relax.op.greater_equal(places, node.emit(relax.op.reshape(starts, column)))
        kept = relax.op.logical_and(kept, begun)
    return _filtered(node, relax.op.reshape(node.emit(kept), relax.ShapeExpr([batch, 1, 1, total])))


def _megatron(node: Node, mask: relax.Expr, new: Dim, total: Dim, offset: Dim) -> relax.Expr:
    """The part of a mask ``[B, 1, max, max]`` that belongs to the new queries and the keys."""
    begin, end = simplify(offset), simplify(offset + new)
    return node.emit(relax.op.strided_slice(mask, [2, 3], [begin, 0], [end, total]))


def causal_bias(node: Node, new: Dim, total: Dim, offset: Dim) -> relax.Expr:
    """``[new, total]``: the lowest number where a key comes after its query."""
    lowest = float(np.finfo(node.dtype()).min)
    if all(isinstance(d, int) for d in (new, total, offset)):
        later = np.arange(total)[None, :] > np.arange(new)[:, None] + offset
        return constant(np.where(later, lowest, 0.0).astype(node.dtype()))
    queries = node.emit(relax.op.expand_dims(node.emit(counted(new)), 1))
    if not same(offset, 0):
        first = node.emit(relax.op.arange(offset, simplify(offset + new), 1, "int64"))
        queries = node.emit(relax.op.expand_dims(first, 1))
    later = node.emit(relax.op.greater(node.emit(counted(total)), queries))
    return node.emit(relax.op.where(later, node.scalar(lowest), node.scalar(0)))


def without_later(node: Node, masked: relax.Expr | None, causal: relax.Expr) -> relax.Expr:
    """The bias of a mask where nothing is later, else the lowest number.

    A sum of the two would tell a masked key from a later one where the filter value is the
    lowest number too: onnxruntime gives a query that sees no key at all the mean of all.
    """
    return causal if masked is None else node.emit(relax.op.minimum(masked, causal))


def total_bias(node: Node, biases: list[relax.Expr | None]) -> relax.Expr | None:
    """The sum of the biases that there are."""
    result: relax.Expr | None = None
    for bias in biases:
        if bias is not None:
            result = bias if result is None else added(node, result, bias)
    return result
