"""Relax operators that select: what they find has an extent that only data knows.

Relax's own give such results no shape. Here the extent is an operand, a shape with a
symbol that a tensor was read as before (``relax.tensor_to_shape`` and ``match_cast``),
so that the result has a shape like any other.

- ``motet.nonzero(x, shape(n))``: int64 [rank, n], the positions, in row-major order, of the
  first ``n`` true elements of ``x`` (bool); ``n`` is their number.
- ``motet.topk(x, shape(k))``, attributes ``axis`` and ``largest``: the ``k`` best elements
  along an axis in order, and where they were (int64); equal ones keep their order.
- ``motet.nms(boxes, scores, most, overlap, least, shape(limit))``: ONNX's
  NonMaxSuppression of boxes [batch, boxes, 4] given by corners, and scores [batch, classes,
  boxes]. The thresholds are tensors of one element: int64, float, float. The result is
  int64 [limit, 3], of which the first ``count`` rows are filled, and int64 [1], the count;
  ``limit`` is at least batch * classes * min(boxes, most).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Op

from .registering import register

NONZERO, TOPK, NMS = "motet.nonzero", "motet.topk", "motet.nms"


def nonzero(x: relax.Expr, count: Any) -> relax.Call:
    """The call of ``motet.nonzero``."""
    return relax.Call(Op.get(NONZERO), [x, relax.ShapeExpr([count])])


def topk(x: relax.Expr, count: Any, axis: int, largest: bool) -> relax.Call:
    """The call of ``motet.topk``; ``axis`` is not negative."""
    attrs = tvm.ir.make_node("ir.DictAttrs", axis=axis, largest=int(largest))
    return relax.Call(Op.get(TOPK), [x, relax.ShapeExpr([count])], attrs)


def nms(operands: Sequence[relax.Expr], limit: Any) -> relax.Call:
    """The call of ``motet.nms`` on boxes, scores and the three thresholds."""
    return relax.Call(Op.get(NMS), [*operands, relax.ShapeExpr([limit])])


def extent_of(call: relax.Call) -> Any:
    """The extent that a call was given."""
    return call.args[-1].values[0]


def _infer_nonzero(call: relax.Call, _builder: relax.BlockBuilder) -> Any:
    rank = len(call.args[0].ty.shape.values)
    return relax.TensorType([rank, extent_of(call)], "int64")


def _infer_topk(call: relax.Call, _builder: relax.BlockBuilder) -> Any:
    x, axis = call.args[0].ty, int(call.attrs["axis"])
    shape = list(x.shape.values)
    shape[axis] = extent_of(call)
    return relax.TupleType([relax.TensorType(shape, x.dtype), relax.TensorType(shape, "int64")])


def _infer_nms(call: relax.Call, _builder: relax.BlockBuilder) -> Any:
    rows = relax.TensorType([extent_of(call), 3], "int64")
    return relax.TupleType([rows, relax.TensorType([1], "int64")])


register(NONZERO, "positions of what is true", _infer_nonzero)
register(TOPK, "the best elements in order", _infer_topk)
register(NMS, "boxes that overlap no better one", _infer_nms)
