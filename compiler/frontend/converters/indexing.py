"""Gathers, scatters and sorts; negative indices are resolved at import where they can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend import late
from motet.compiler.frontend.node import Node, is_float
from motet.compiler.frontend.shape_data import same
from motet.compiler.frontend.values import Constant, Dim, Tensor, constant, counted, shape_value
from motet.targets.operators import selection

_COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "update": lambda _, new: new,
    "add": relax.op.add,
    "mul": relax.op.multiply,
    "max": relax.op.maximum,
    "min": relax.op.minimum,
}
# Scatters of at most so many entries per line become choices.
_MAX_SELECTED = 16


def _positive(node: Node, index: int, extents: Dim | list[Dim]) -> relax.Expr:
    """Input ``index`` with negative indices counted from the end of ``extents``.

    ``extents`` is one extent, or one for each entry of the last axis.
    """
    several = isinstance(extents, list)
    limit = shape_value(extents if isinstance(extents, list) else [extents], scalar=not several)
    array = node.constant(index)
    if array is not None and isinstance(limit, Constant):
        bounds, array = limit.array, array.astype(np.int64)
        if array.size and ((array >= bounds) | (array < -bounds)).any():
            node.refuse(f"indices out of the range of {bounds.tolist()}")
        return constant(np.where(array < 0, array + bounds, array))
    if array is not None and not (array < 0).any():
        return constant(array.astype(np.int64))
    x = node.x(index)
    if node.dtype(x) != "int64":
        x = node.emit(relax.op.astype(x, "int64"))
    below = relax.op.less(x, node.scalar(0, "int64"))
    return node.emit(relax.op.where(below, relax.op.add(x, node.tensor(limit)), x))


def gather(node: Node) -> relax.Expr:
    """Gather: one ``R.take``; its wrap mode counts negative run-time indices from the end."""
    axis = node.axis(0)
    extent = node.shape()[axis]
    array = node.constant(1)
    if array is None:
        return relax.op.take(node.x(), node.x(1), axis, mode="wrap")
    if isinstance(extent, int):
        return relax.op.take(node.x(), _positive(node, 1, extent), axis, mode="clip")
    mode = "wrap" if (array < 0).any() else "clip"
    return relax.op.take(node.x(), node.x(1), axis, mode=mode)


def gather_elements(node: Node) -> relax.Expr:
    """GatherElements along ``axis``."""
    axis = node.axis(0)
    return relax.op.gather_elements(node.x(), _positive(node, 1, node.shape()[axis]), axis)


def gather_nd(node: Node) -> relax.Expr:
    """GatherND with ``batch_dims``."""
    batch = int(node.attr("batch_dims", 0))
    depth = node.static(node.shape(node.x(1))[-1:], "the depth of the indices")[0]
    extents = list(node.shape()[batch : batch + depth])
    return relax.op.gather_nd(node.x(), _positive(node, 1, extents), batch)


def _reduction(node: Node) -> str:
    reduction = str(node.attr("reduction", "none"))
    return "update" if reduction == "none" else reduction


def scatter_elements(node: Node) -> relax.Expr:
    """ScatterElements (and Scatter, its old name), also with indices smaller than the data."""
    axis, dims = node.axis(0), node.shape()
    indices = _positive(node, 1, dims[axis])
    lengths = node.shape(indices)
    others = [i for i in range(len(dims)) if i != axis]
    if all(same(dims[i], lengths[i]) for i in (*others, axis)):
        return relax.op.scatter_elements(
            node.x(), indices, node.x(2), axis, reduction=_reduction(node)
        )
    if all(same(dims[i], lengths[i]) for i in others) and _is_short(lengths[axis]):
        return _selected(node, indices, axis, int(lengths[axis]))
    counts = node.static(lengths, "the shape of the indices")
    # Explicit places for every entry: the element-wise operator broadcasts axes of size 1.
    places = np.moveaxis(np.indices(counts), 0, -1).reshape(-1, len(counts)).astype("int64")
    flat = relax.op.reshape(relax.op.astype(indices, "int64"), (len(places), 1))
    columns = np.zeros((len(places), len(counts)), bool)
    columns[:, axis] = True
    target = relax.op.where(constant(columns), flat, constant(places))
    updates = relax.op.reshape(node.x(2), (len(places),))
    return relax.op.scatter_nd(node.x(), target, updates, _reduction(node))


def _is_short(length: Dim) -> bool:
    return isinstance(length, int) and length <= _MAX_SELECTED


def _selected(node: Node, indices: relax.Expr, axis: int, count: int) -> relax.Expr:
    """A scatter of ``count`` entries per line, as one choice per entry."""
    combine = _COMBINE[_reduction(node)]
    after = list(range(1, node.rank() - axis))
    places = node.emit(counted(node.shape()[axis]))
    places = node.emit(relax.op.expand_dims(places, after)) if after else places
    result = node.x()
    for entry in range(count):
        index, update = (
            node.emit(relax.op.strided_slice(x, [axis], [entry], [entry + 1]))
            for x in (indices, node.x(2))
        )
        new = combine(result, update)
        result = node.emit(relax.op.where(relax.op.equal(places, index), new, result))
    return result


def scatter_nd(node: Node) -> relax.Expr:
    """ScatterND."""
    depth = node.static(node.shape(node.x(1))[-1:], "the depth of the indices")[0]
    indices = _positive(node, 1, list(node.shape()[:depth]))
    return relax.op.scatter_nd(node.x(), indices, node.x(2), _reduction(node))


def one_hot(node: Node) -> relax.Expr:
    """OneHot: ``where(index == position, on, off)``; an index out of range gives all off.

    So does one between two places. (ONNX's text would round floats towards zero; neither
    onnx's evaluator nor onnxruntime does.)
    """
    depth = _depth(node)
    values = node.constant(2)
    if values is None:
        off, on = (node.emit(relax.op.take(node.x(2), late.number(node, i), 0)) for i in range(2))
    else:
        off, on = constant(values[0]), constant(values[1])
    rank = node.rank() + 1
    axis = node.normal_axis(int(node.attr("axis", -1)), rank)
    dtype = node.dtype() if is_float(node.dtype()) else "int64"
    index = node.emit(relax.op.expand_dims(relax.op.astype(node.x(), dtype), axis))
    count = node.emit(relax.op.astype(late.as_vector(node, [depth]), dtype))
    wrapped = relax.op.add(index, count)
    index = relax.op.where(relax.op.less(index, node.scalar(0, dtype)), wrapped, index)
    shape = relax.ShapeExpr([depth if i == axis else 1 for i in range(rank)])
    places = node.emit(relax.op.reshape(node.emit(counted(depth)), shape))
    hit = relax.op.equal(index, node.emit(relax.op.astype(places, dtype)))
    return relax.op.where(hit, on, off)


def _depth(node: Node) -> Dim:
    """How many classes a OneHot has, which may be stated as a float."""
    value = node.value(1)
    if isinstance(value, Tensor) and is_float(node.dtype(value.expr)):
        value = Tensor(node.emit(relax.op.astype(value.expr, "int64")))
        dims = late.dims_of(node, value, "depth")
        if dims is not None:
            return dims[0]
    return node.dims(1, "depth")[0]


def top_k(node: Node) -> list[relax.Expr]:
    """TopK along ``axis``; the result is sorted whether or not the node asks for it."""
    axis = node.axis(-1)
    k = node.attr("k") if node.opset < 10 else _best(node, axis)
    largest = bool(node.attr("largest", 1))
    if not isinstance(k, int) and not same(k, node.shape()[axis]):
        both = node.emit(selection.topk(node.x(), k, axis, largest))
        return [relax.TupleGetItem(both, 0), relax.TupleGetItem(both, 1)]
    if not isinstance(k, int):
        order = node.emit(relax.op.argsort(node.x(), axis, largest, "int64"))
        return [relax.op.gather_elements(node.x(), order, axis), order]
    if k == 0:  # which Relax takes for all
        dims = relax.ShapeExpr([0 if i == axis else d for i, d in enumerate(node.shape())])
        return [relax.op.zeros(dims, node.dtype()), relax.op.zeros(dims, "int64")]
    both = node.emit(relax.op.topk(node.x(), k, axis, "both", largest, "int64"))
    return [relax.TupleGetItem(both, 0), relax.TupleGetItem(both, 1)]


def _best(node: Node, axis: int) -> Dim:
    """How many elements a TopK is to give; more than there are is refused when it is met."""
    value = node.value(1)
    if not isinstance(value, Tensor):
        return node.dims(1, "k")[0]
    extent = late.as_vector(node, [node.shape()[axis]])

    def checked(vector: relax.Expr, _start: int) -> relax.Expr:
        over = node.emit(relax.op.greater(vector, extent))
        return late.chosen(node, over, late.number(node, -1), vector)

    dims = late.dims_of(node, value, "k", checked)
    return node.dims(1, "k")[0] if dims is None else dims[0]


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ScatterElements": scatter_elements,
    "Scatter": scatter_elements,
    "ScatterND": scatter_nd,
    "OneHot": one_hot,
    "TopK": top_k,
}
