"""Shapes, cuts and ranges that the run computes: worked out by small kernels, then bound.

What ONNX says about special values (a 0 or -1 in the shape of a Reshape, a 1 in that of
an Expand, places beyond an axis in a Slice) is done on the integers before they become
dimensions. What no dimension can be is made -1, which the run time refuses by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax

from motet.compiler.frontend import late
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import product, same
from motet.compiler.frontend.values import Dim, Tensor, counted


def reshape_dims(node: Node, value: Tensor) -> list[Dim] | None:
    """The shape of a Reshape: 0 copies a dimension (unless ``allowzero``), one -1 is the rest.

    A -1 that is known stays as it is.
    """
    length, old = late.length_of(value.expr), list(node.shape())
    if length is None:
        return None
    copied = (old + [0] * length)[:length]
    known = [p for p in late.pieces(node, value.expr) if isinstance(p, list)]
    if any(isinstance(d, int) and d == -1 for piece in known for d in piece):

        def zero_copies(vector: relax.Expr, start: int) -> relax.Expr:
            return _copied(node, vector, copied[start : start + (late.length_of(vector) or 0)])

        return late.dims_of(node, value, "dim", zero_copies)
    whole = _copied(node, late.vector_of(node, value.expr), copied)
    is_rest = node.emit(relax.op.equal(whole, late.number(node, -1)))
    others = late.chosen(node, is_rest, late.number(node, 1), whole)
    taken = node.emit(relax.op.maximum(_product(node, others), late.number(node, 1)))
    total = node.emit(relax.op.reshape(late.as_vector(node, [product(old)]), [1]))
    rest = node.emit(relax.op.floor_divide(total, taken))
    whole = late.chosen(node, is_rest, rest, whole)

    def resolved(vector: relax.Expr, start: int) -> relax.Expr:
        return _entries(node, whole, start, late.length_of(vector) or 0)

    return late.dims_of(node, value, "dim", resolved)


def _copied(node: Node, vector: relax.Expr, old: Sequence[Dim]) -> relax.Expr:
    """``vector`` with ``old`` where it is 0."""
    if node.attr("allowzero", 0) or not old:
        return vector
    is_zero = node.emit(relax.op.equal(vector, late.number(node, 0)))
    return late.chosen(node, is_zero, late.as_vector(node, old), vector)


def _product(node: Node, vector: relax.Expr) -> relax.Expr:
    return node.emit(relax.op.prod(vector, axis=0, keepdims=True))


def _entries(node: Node, vector: relax.Expr, start: int, length: int) -> relax.Expr:
    """Entries of a vector of known length."""
    if length == late.length_of(vector):
        return vector
    return node.emit(relax.op.strided_slice(vector, [0], [start], [start + length]))


def expand_dims(node: Node, value: Tensor, old: Sequence[Dim]) -> list[Dim] | None:
    """The shape of an Expand, broadcast with ``old``'s last axes where that is longer."""
    length = late.length_of(value.expr)
    if length is None:
        return None
    shift = length - len(old)
    padded, checked = [1] * shift + list(old)[max(-shift, 0) :], set[int]()

    def broadcast(vector: relax.Expr, start: int) -> relax.Expr:
        places = range(start, start + (late.length_of(vector) or 0))
        checked.update(places)
        have = late.as_vector(node, [padded[place] for place in places])
        one = late.number(node, 1)
        spreads, keeps = (node.emit(relax.op.equal(v, one)) for v in (have, vector))
        same = node.emit(relax.op.equal(have, vector))
        other = late.chosen(node, same, have, late.number(node, -1))
        other = late.chosen(node, keeps, have, other)
        return late.chosen(node, spreads, vector, other)

    dims = late.dims_of(node, value, "dim", broadcast) or []
    return [
        have if i in checked and isinstance(have, int) and have != 1 else dim
        for i, (have, dim) in enumerate(zip(padded, dims, strict=True))
    ]


def spread(node: Node, x: relax.Expr, dims: Sequence[Dim]) -> relax.Expr:
    """``x`` broadcast to ``dims`` along symbolic axes that are 1 or as long already."""
    for axis, (have, want) in enumerate(zip(node.shape(x), dims, strict=True)):
        if not isinstance(have, int) and not same(have, want):
            # An index past an axis of 1 stands for its only entry.
            x = node.emit(relax.op.take(x, node.emit(counted(want)), axis, mode="clip"))
    return x


def range_of(node: Node) -> relax.Expr:
    """Range of limits that the run computes: the number of entries is bound, then filled."""
    start, limit, delta = (_scalar(node, i) for i in range(3))
    dtype = node.dtype(start)
    span = node.emit(relax.op.subtract(limit, start))
    if dtype.startswith("float"):
        # In float64, as onnxruntime and numpy count: 0.3 / 0.1 rounds to 3 in float32.
        wide = [node.emit(relax.op.astype(x, "float64")) for x in (span, delta)]
        count = node.emit(relax.op.ceil(node.emit(relax.op.divide(*wide))))
        count = node.emit(relax.op.astype(count, "int64"))
    else:
        zero = node.scalar(0, dtype)
        none = node.emit(relax.op.equal(delta, zero))
        step = late.chosen(node, none, node.scalar(1, dtype), delta)
        down = node.emit(relax.op.floor_divide(node.emit(relax.op.subtract(zero, span)), step))
        whole = node.emit(relax.op.subtract(zero, down))
        # Stepping by 0 never ends: -1 is refused when it is met.
        whole = node.emit(relax.op.maximum(whole, zero))
        count = late.chosen(node, none, node.scalar(-1, dtype), whole)
        count = count if dtype == "int64" else node.emit(relax.op.astype(count, "int64"))
    if dtype.startswith("float"):
        count = node.emit(relax.op.maximum(count, late.number(node, 0)))
    (length,) = late.bind(node, node.emit(relax.op.reshape(count, [1])), ["count"])
    steps = node.emit(counted(length))
    steps = steps if dtype == "int64" else node.emit(relax.op.astype(steps, dtype))
    return relax.op.add(node.emit(relax.op.multiply(steps, delta)), start)


def _scalar(node: Node, index: int) -> relax.Expr:
    x = node.x(index)
    return x if node.rank(x) == 0 else node.emit(relax.op.reshape(x, []))


def cuts(
    node: Node, starts: relax.Expr, ends: relax.Expr, extents: Sequence[Dim], steps: Sequence[int]
) -> list[tuple[Dim, Dim]]:
    """Start and number of entries per axis of a Slice, clamped as ONNX says."""
    extent, step = late.as_vector(node, extents), late.as_vector(node, list(steps))
    zero, one = late.number(node, 0), late.number(node, 1)
    forward = node.emit(relax.op.greater(step, zero))
    last = node.emit(relax.op.subtract(extent, one))

    def placed(vector: relax.Expr, low: relax.Expr) -> relax.Expr:
        below = node.emit(relax.op.less(vector, zero))
        wrapped = late.chosen(node, below, node.emit(relax.op.add(vector, extent)), vector)
        high = late.chosen(node, forward, extent, last)
        least = late.chosen(node, forward, zero, low)
        clamped = node.emit(relax.op.maximum(wrapped, least))
        return node.emit(relax.op.minimum(clamped, high))

    minus = late.as_vector(node, [-1] * len(steps))
    begin = placed(starts, node.emit(relax.op.multiply(minus, zero)))
    end = placed(ends, minus)
    # ceil((end - begin) / step) for either sign: -((begin - end) // step)
    span = node.emit(relax.op.subtract(begin, end))
    down = node.emit(relax.op.floor_divide(span, step))
    count = node.emit(relax.op.maximum(node.emit(relax.op.subtract(zero, down)), zero))
    begin = node.emit(relax.op.maximum(begin, zero))
    both = node.emit(relax.op.concat([begin, count], 0))
    names = [f"{what}{i}" for what in ("start", "count") for i in range(len(steps))]
    dims = late.bind(node, both, names)
    return list(zip(dims[: len(steps)], dims[len(steps) :], strict=True))


def cut(node: Node, x: relax.Expr, axis: int, at: tuple[Dim, Dim], step: int) -> relax.Expr:
    """``count`` entries of an axis from ``start`` on, every ``step``-th."""
    start, count = at
    if step == 1:
        return late.part(node, x, axis, start, count)
    places = node.emit(relax.op.multiply(node.emit(counted(count)), late.number(node, step)))
    begin = late.as_vector(node, [start])
    places = node.emit(relax.op.add(places, begin))
    return node.emit(relax.op.take(x, places, axis, mode="clip"))


def split_parts(node: Node, axis: int, value: Tensor) -> list[relax.Expr] | None:
    """The parts of a Split whose sizes the run computes."""
    sizes = late.dims_of(node, value, "size")
    if sizes is None:
        return None
    parts, start = [], 0
    for size in sizes:
        parts.append(late.part(node, node.x(), axis, start, size))
        start = start + size
    return parts


def padded(
    node: Node, widths: relax.Expr, axes: Sequence[int], mode: str, fill: relax.Expr
) -> relax.Expr:
    """Pad by widths that the run computes, negative ones too: every cell looks for its source."""
    vector, x = late.vector_of(node, widths), node.x()
    before = _entries(node, vector, 0, len(axes))
    extents = [node.shape()[axis] for axis in axes]
    known = _known(node, widths, 2 * len(axes))
    dims = _padded_dims(node, vector, known, extents, [f"dim{axis}" for axis in axes])
    for i, (axis, dim) in enumerate(zip(axes, dims, strict=True)):
        if mode == "constant" and known and same(known[i], 0) and same(known[len(axes) + i], 0):
            continue
        begin = _entries(node, before, i, 1)
        places = node.emit(relax.op.subtract(node.emit(counted(dim)), begin))
        x = _around(node, x, axis, places, late.as_vector(node, [extents[i]]), mode, fill)
    return x


def _known(node: Node, x: relax.Expr, count: int) -> list[Dim]:
    """The ``count`` entries of a vector that are known before the run; empty if not all are."""
    known = [d for p in late.pieces(node, x) if isinstance(p, list) for d in p]
    return known if len(known) == count else []


def _padded_dims(
    node: Node,
    vector: relax.Expr,
    known: Sequence[Dim],
    extents: Sequence[Dim],
    names: Sequence[str],
) -> list[Dim]:
    """Extents with the pads before and after; bound where these are not known."""
    count = len(extents)
    if known:
        return [e + b + a for e, b, a in zip(extents, known, known[count:], strict=False)]
    have = late.as_vector(node, extents)
    before, after = _entries(node, vector, 0, count), _entries(node, vector, count, count)
    whole = node.emit(relax.op.add(node.emit(relax.op.add(have, before)), after))
    return late.bind(node, whole, names)


def _around(
    node: Node, x: relax.Expr, axis: int, places: relax.Expr, extent: relax.Expr, mode: str,
    fill: Any,
) -> relax.Expr:  # fmt: skip
    """One axis of ``x`` at ``places``, which may lie outside of it."""
    zero, one = late.number(node, 0), late.number(node, 1)
    if mode == "wrap":
        places = node.emit(relax.op.floor_mod(places, extent))
    if mode == "reflect":
        last = node.emit(relax.op.subtract(extent, one))
        away = node.emit(relax.op.subtract(last, node.emit(relax.op.abs(places))))
        places = node.emit(relax.op.subtract(last, node.emit(relax.op.abs(away))))
    taken = node.emit(relax.op.take(x, places, axis, mode="clip"))
    if mode != "constant":
        return taken
    inside = relax.op.logical_and(
        node.emit(relax.op.greater_equal(places, zero)), node.emit(relax.op.less(places, extent))
    )
    rank = node.rank(x)
    shape = [node.shape(places)[0] if i == axis else 1 for i in range(rank)]
    inside = node.emit(relax.op.reshape(node.emit(inside), relax.ShapeExpr(shape)))
    return node.emit(relax.op.where(inside, taken, fill))
