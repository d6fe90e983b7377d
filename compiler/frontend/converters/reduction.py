"""Reductions: one converter for all opsets, axes as attribute or input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.node import Node, is_float
from motet.compiler.frontend.values import Constant, Value, constant

Reduce = Callable[[Node, Any, "list[int]", bool], Any]


def _reduction(reduce: Reduce, nothing: float) -> Callable[[Node], Any]:
    """The converter of an operator whose value for no elements at all is ``nothing``."""

    def convert(node: Node) -> relax.Expr | Value:
        rank = node.rank()
        axes = [node.normal_axis(a, rank) for a in node.ints(1, "axes") or []]
        if not axes:
            if node.attr("noop_with_empty_axes", 0):
                return node.value(0)
            axes = list(range(rank))
        keep = bool(node.attr("keepdims", 1))
        if any(node.shape()[a] == 0 for a in axes):
            return _of_nothing(node, axes, keep, nothing)
        return reduce(node, node.x(), axes, keep)

    return convert


def _of_nothing(node: Node, axes: list[int], keep: bool, value: float) -> relax.Expr | Value:
    """``value`` in every place; an infinity is the farthest number of an integer type."""
    dims = [1 if a in axes else d for a, d in enumerate(node.shape()) if keep or a not in axes]
    dtype = np.dtype(node.dtype())
    if dtype.kind in "iu" and not np.isfinite(value):
        value = np.iinfo(dtype).max if value > 0 else np.iinfo(dtype).min
    number = np.array(value > 0 if dtype.kind == "b" else value).astype(dtype)
    if all(isinstance(d, int) for d in dims):
        return Constant(np.full(dims, number))
    return relax.op.full(relax.ShapeExpr(dims), constant(number), dtype.name)


def _log_sum_exp(node: Node, x: relax.Expr, axes: list[int], keep: bool) -> relax.Expr:
    """log(sum(exp(x))), shifted by a finite maximum so that exp cannot overflow."""
    peak = node.emit(relax.op.max(x, axes, True))
    zero = node.scalar(0, node.dtype(x))
    peak = node.emit(relax.op.where(relax.op.isinf(peak), zero, peak))
    total = relax.op.sum(relax.op.exp(relax.op.subtract(x, peak)), axes, True)
    result = relax.op.add(relax.op.log(total), peak)
    return result if keep else relax.op.squeeze(result, axes)


def _mean(node: Node, x: relax.Expr, axes: list[int], keep: bool) -> relax.Expr:
    if not is_float(node.dtype(x)):
        node.refuse(f"a mean of {node.dtype(x)}: cast it to float32 first")
    return relax.op.mean(x, axes, keep)


def _boolean(operator: Callable[..., Any]) -> Reduce:
    """Max or min, also of booleans (opset 20), through int8."""

    def reduce(node: Node, x: relax.Expr, axes: list[int], keep: bool) -> relax.Expr:
        if node.dtype(x) != "bool":
            return operator(x, axes, keep)
        return relax.op.astype(operator(relax.op.astype(x, "int8"), axes, keep), "bool")

    return reduce


def _squares(x: relax.Expr) -> relax.Expr:
    return relax.op.multiply(x, x)


def arg_reduction(operator: Callable[..., Any]) -> Callable[[Node], Any]:
    """ArgMax or ArgMin, with ``select_last_index``."""

    def convert(node: Node) -> relax.Expr:
        axis, keep = node.axis(), bool(node.attr("keepdims", 1))
        if node.shape()[axis] == 0:
            node.refuse("the place of an extreme along an axis of size 0")
        if not node.attr("select_last_index", 0):
            return operator(node.x(), axis, keep)
        extent = node.static([node.shape()[axis]], "an axis with select_last_index")[0]
        found = operator(relax.op.flip(node.x(), axis), axis, keep)
        return relax.op.subtract(node.scalar(extent - 1, "int64"), found)

    return convert


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "ReduceSum": _reduction(lambda n, x, a, k: relax.op.sum(x, a, k), 0),
    "ReduceMean": _reduction(_mean, np.nan),
    "ReduceMax": _reduction(_boolean(relax.op.max), -np.inf),
    "ReduceMin": _reduction(_boolean(relax.op.min), np.inf),
    "ReduceProd": _reduction(lambda n, x, a, k: relax.op.prod(x, a, k), 1),
    "ReduceL1": _reduction(lambda n, x, a, k: relax.op.sum(relax.op.abs(x), a, k), 0),
    "ReduceL2": _reduction(lambda n, x, a, k: relax.op.sqrt(relax.op.sum(_squares(x), a, k)), 0),
    "ReduceLogSum": _reduction(lambda n, x, a, k: relax.op.log(relax.op.sum(x, a, k)), -np.inf),
    "ReduceLogSumExp": _reduction(_log_sum_exp, -np.inf),
    "ReduceSumSquare": _reduction(lambda n, x, a, k: relax.op.sum(_squares(x), a, k), 0),
    "ArgMax": arg_reduction(relax.op.argmax),
    "ArgMin": arg_reduction(relax.op.argmin),
}
