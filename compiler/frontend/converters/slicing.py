"""Slice, resolved against static dimensions wherever they are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import relax, tirx

from motet.compiler.frontend import late
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import is_non_negative, same
from motet.compiler.frontend.values import Dim, Tensor, as_expr, shape_value

from . import late_shapes

# Exporters write INT_MAX, INT64_MAX or a round 10^9 for "to the end".
_OPEN_END = 10**9


def slice_(node: Node) -> relax.Expr:
    """Slice; whole axes are left alone, so that a symbolic dimension stays what it is."""
    if node.opset >= 10 and any(isinstance(v, Tensor) for v in node.inputs[1:3]):
        return _late(node)
    starts, ends, axes, steps = _parameters(node)
    dims = node.shape()
    cuts, x = [], node.x()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = node.normal_axis(axis, len(dims))
        if step == 0:
            node.refuse("a step of 0")
        if step == 1 and _is_zero(start) and isinstance(end, int) and end >= _OPEN_END:
            continue
        if step == -1 and not isinstance(dims[axis], int) and _is_whole(start, end):
            x = node.emit(relax.op.flip(x, axis))
            continue
        if isinstance(dims[axis], int) and isinstance(start, int) and isinstance(end, int):
            cut = _clamped(dims[axis], start, end, step)
            if cut == (0, dims[axis], 1):
                continue
            cuts.append((axis, *cut))
        else:
            cuts.append((axis, *_symbolic(node, dims[axis], start, end, step)))
    if not cuts:
        return x
    axis_list, begin, stop, stride = (list(column) for column in zip(*cuts, strict=True))
    return relax.op.strided_slice(x, axis_list, begin, stop, stride)


def _parameters(node: Node) -> tuple[list[Dim], list[Dim], list[int], list[int]]:
    if node.opset < 10:
        starts, ends = list(node.attr("starts")), list(node.attr("ends"))
        axes = node.attr("axes") or list(range(len(starts)))
        return starts, ends, list(axes), [1] * len(starts)
    starts, ends = node.dims(1, "starts"), node.dims(2, "ends")
    axes = node.ints(3, "axes") or list(range(len(starts)))
    return starts, ends, axes, node.ints(4, "steps") or [1] * len(starts)


def _late(node: Node) -> relax.Expr:
    """Slice at places that the run computes."""
    starts, ends = (late.vector_of(node, node.x(i)) for i in (1, 2))
    count = late.length_of(starts)
    if count is None or late.length_of(ends) != count:
        node.refuse("how many axes it cuts is only known at run time", node.value(1))
    x, rank = node.x(), node.rank()
    axes = [node.normal_axis(a, rank) for a in node.ints(3, "axes") or range(count)]
    steps = node.ints(4, "steps") or [1] * count
    if len(axes) != count or len(steps) != count or 0 in steps:
        node.refuse(f"{count} starts for axes {axes} in steps {steps}")
    places = late_shapes.cuts(node, starts, ends, [node.shape()[a] for a in axes], steps)
    for axis, place, step in zip(axes, places, steps, strict=True):
        x = late_shapes.cut(node, x, axis, place, step)
    return x


def _is_zero(value: Dim) -> bool:
    return isinstance(value, int) and value == 0


def _clamped(extent: int, start: int, end: int, step: int) -> tuple[int, int, int]:
    """Start and end clamped as ONNX says; backwards -extent - 1 is the open end.

    Backwards ONNX clamps the start into the axis, where Python takes one before it for none.
    """
    begin, stop = (place + extent if place < 0 else place for place in (start, end))
    if step > 0:
        begin = min(max(begin, 0), extent)
        return begin, min(max(stop, begin), extent), step
    begin, stop = min(max(begin, 0), extent - 1), max(stop, -1)
    if stop >= begin:
        return 0, 0, 1
    return begin, (-extent - 1 if stop < 0 else stop), step


def _symbolic(node: Node, extent: Dim, start: Dim, end: Dim, step: int) -> tuple[Dim, Dim, int]:
    """A cut of a symbolic extent, or at symbolic places; Relax clamps it to the extent."""
    if step < 0:
        node.refuse(f"a negative step over the symbolic dimension {extent}", shape_value([extent]))
    if isinstance(end, int) and end >= _OPEN_END:
        end = extent
    if _is_zero(start) or same(end, extent):
        return _from_front(start, extent), _from_front(end, extent), step
    # Relax would give a cut that ends before it starts a negative length.
    begin, stop = (_from_front(place, extent, counted=True) for place in (start, end))
    return begin, tirx.max(as_expr(stop), as_expr(begin)), step


def _is_whole(start: Dim, end: Dim) -> bool:
    """Whether a backward cut takes every element, from the last to the first."""
    last = isinstance(start, int) and (start == -1 or start >= _OPEN_END)
    return last and isinstance(end, int) and end <= -_OPEN_END


def _from_front(place: Dim, extent: Dim, counted: bool = False) -> Dim:
    """A symbolic place that is provably not negative, for Relax would branch on its sign.

    A negative one counts from the end: ``p + extent * [p < 0]``, without a branch. A
    plain number stays what it is, unless it is to be ``counted`` too.
    """
    if isinstance(place, int):
        return tirx.max(extent + place, as_expr(0)) if counted and place < 0 else place
    if not is_non_negative(place):
        negative = tirx.min(tirx.max(0 - place, as_expr(0)), as_expr(1))
        place = place + extent * negative
    return tirx.max(place, as_expr(0))


CONVERTERS: dict[str, Callable[[Node], Any]] = {"Slice": slice_}
