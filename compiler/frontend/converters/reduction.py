"""Reductions: one converter for all opsets, axes as attribute or input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import relax

from motet.compiler.frontend.node import Node, is_float
from motet.compiler.frontend.values import Value

Reduce = Callable[[Node, Any, "list[int]", bool], Any]


def _reduction(reduce: Reduce, empty_allowed: bool = False) -> Callable[[Node], Any]:
    def convert(node: Node) -> relax.Expr | Value:
        rank = node.rank()
        axes = [node.normal_axis(a, rank) for a in node.ints(1, "axes") or []]
        if not axes:
            if node.attr("noop_with_empty_axes", 0):
                return node.value(0)
            axes = list(range(rank))
        if not empty_allowed and any(node.shape()[a] == 0 for a in axes):
            node.refuse("a reduction over an axis of size 0")
        return reduce(node, node.x(), axes, bool(node.attr("keepdims", 1)))

    return convert


def _log_sum_exp(node: Node, x: relax.Expr, axes: list[int], keep: bool) -> relax.Expr:
    """log(sum(exp(x))), shifted by the maximum so that exp cannot overflow."""
    peak = node.emit(relax.op.max(x, axes, True))
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
        if not node.attr("select_last_index", 0):
            return operator(node.x(), axis, keep)
        extent = node.static([node.shape()[axis]], "an axis with select_last_index")[0]
        found = operator(relax.op.flip(node.x(), axis), axis, keep)
        return relax.op.subtract(node.scalar(extent - 1, "int64"), found)

    return convert


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "ReduceSum": _reduction(lambda n, x, a, k: relax.op.sum(x, a, k)),
    "ReduceMean": _reduction(_mean),
    "ReduceMax": _reduction(_boolean(relax.op.max)),
    "ReduceMin": _reduction(_boolean(relax.op.min)),
    "ReduceProd": _reduction(lambda n, x, a, k: relax.op.prod(x, a, k)),
    "ReduceL1": _reduction(lambda n, x, a, k: relax.op.sum(relax.op.abs(x), a, k)),
    "ReduceL2": _reduction(lambda n, x, a, k: relax.op.sqrt(relax.op.sum(_squares(x), a, k))),
    "ReduceLogSum": _reduction(lambda n, x, a, k: relax.op.log(relax.op.sum(x, a, k))),
    "ReduceLogSumExp": _reduction(_log_sum_exp),
    "ReduceSumSquare": _reduction(lambda n, x, a, k: relax.op.sum(_squares(x), a, k)),
    "ArgMax": arg_reduction(relax.op.argmax),
    "ArgMin": arg_reduction(relax.op.argmin),
}
