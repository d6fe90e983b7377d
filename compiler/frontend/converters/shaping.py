"""Operators that change a tensor's shape, with static or symbolic dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from tvm import relax, tirx

from motet.compiler.frontend.completion import agreed, cast_to
from motet.compiler.frontend.fold import MAX_ELEMENTS
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import product, same, simplify
from motet.compiler.frontend.values import (
    Constant,
    Dim,
    Symbolic,
    Tensor,
    Value,
    as_expr,
    constant,
)
from motet.runtime.element_types import carried

from . import late_shapes


def _reshaped(node: Node, x: relax.Expr, dims: Sequence[Dim]) -> relax.Expr:
    """``x`` with shape ``dims``; nothing is emitted where it has that shape already."""
    old = node.shape(x)
    if len(old) == len(dims) and all(same(a, b) for a, b in zip(old, dims, strict=True)):
        return x
    if any(isinstance(d, int) and d == 0 for d in dims):  # Relax takes a 0 for "as it was"
        return relax.op.zeros(relax.ShapeExpr(list(dims)), node.dtype(x))
    return relax.op.reshape(x, relax.ShapeExpr(list(dims)))


def reshape(node: Node) -> relax.Expr:
    """Reshape: 0 copies a dimension (unless ``allowzero``), -1 takes what is left."""
    value = node.value(1)
    late = late_shapes.reshape_dims(node, value) if isinstance(value, Tensor) else None
    dims = node.dims(1, "shape") if late is None else late
    old = node.shape()
    if not node.attr("allowzero", 0):
        if any(isinstance(d, int) and d == 0 and i >= len(old) for i, d in enumerate(dims)):
            node.refuse(f"shape {dims} copies a dimension that its input of rank {len(old)} lacks")
        dims = [old[i] if isinstance(d, int) and d == 0 else d for i, d in enumerate(dims)]
    if sum(isinstance(d, int) and d < 0 for d in dims) > 1:
        node.refuse(f"shape {dims} has more than one -1")
    return _reshaped(node, node.x(), _with_rest(node, old, dims))


def _with_rest(node: Node, old: Sequence[Dim], dims: list[Dim]) -> list[Dim]:
    """``dims`` with -1 replaced by what the elements of ``old`` leave for it."""
    total = product(old)
    if not any(isinstance(d, int) and d < 0 for d in dims):
        asked = product(dims)
        if isinstance(total, int) and isinstance(asked, int) and total != asked:
            node.refuse(f"{total} elements do not fit shape {[str(d) for d in dims]}")
        return dims
    rest = product([d for d in dims if not (isinstance(d, int) and d < 0)])
    if isinstance(total, int) and isinstance(rest, int) and (rest == 0 or total % rest):
        node.refuse(f"{total} elements do not fit shape {dims}")
    left = _quotient(old, total, dims, rest)
    return [left if isinstance(d, int) and d < 0 else d for d in dims]


def _quotient(old: Sequence[Dim], total: Dim, dims: Sequence[Dim], rest: Dim) -> Dim:
    """Total / rest; equal symbolic factors are cancelled first."""
    if isinstance(total, int) and isinstance(rest, int):
        return total // rest
    upper = list(old)
    lower = []
    for dim in (d for d in dims if not (isinstance(d, int) and d < 0)):
        match = next((i for i, u in enumerate(upper) if same(u, dim)), None)
        if match is None:
            lower.append(dim)
        else:
            del upper[match]
    rest = product(lower)
    if isinstance(rest, int) and rest == 1:
        return product(upper)
    if isinstance(rest, int) and rest > 0:
        known = [u for u in upper if isinstance(u, int)]
        fixed = product(known)
        if fixed % rest == 0:
            return product([fixed // rest, *(u for u in upper if not isinstance(u, int))])
    return simplify(tirx.floordiv(product(upper), rest))


def flatten(node: Node) -> relax.Expr:
    """Flatten to rank 2 at ``axis``."""
    dims = node.shape()
    axis = int(node.attr("axis", 1))
    if not -len(dims) <= axis <= len(dims):
        node.refuse(f"axis {axis} is out of range for rank {len(dims)}")
    axis = axis + len(dims) if axis < 0 else axis
    return _reshaped(node, node.x(), [product(dims[:axis]), product(dims[axis:])])


def squeeze(node: Node) -> relax.Expr:
    """Squeeze the given axes, or all of size 1."""
    dims = node.shape()
    axes = node.ints(1, "axes")
    if axes is None:
        drop = {i for i, d in enumerate(dims) if isinstance(d, int) and d == 1}
    else:
        drop = {node.normal_axis(a, len(dims)) for a in axes}
    for axis in drop:
        if isinstance(dims[axis], int) and dims[axis] != 1:
            node.refuse(f"axis {axis} has size {dims[axis]}, but only size 1 can be squeezed")
    # A symbolic axis is taken for 1; the run time compares the numbers of elements.
    return _reshaped(node, node.x(), [d for i, d in enumerate(dims) if i not in drop])


def unsqueeze(node: Node) -> relax.Expr:
    """Unsqueeze at the given axes of the result."""
    axes = node.ints(1, "axes") or []
    dims, rank = iter(node.shape()), node.rank() + len(axes)
    new = {node.normal_axis(a, rank) for a in axes}
    return _reshaped(node, node.x(), [1 if i in new else next(dims) for i in range(rank)])


def transpose(node: Node) -> relax.Expr:
    """Transpose by ``perm``, which reverses the axes by default."""
    rank = node.rank()
    perm = list(node.attr("perm") or range(rank - 1, -1, -1))
    if perm == list(range(rank)):
        return node.x()
    return relax.op.permute_dims(node.x(), perm)


def expand(node: Node) -> relax.Expr:
    """Expand: two-way broadcasting, so a 1 in the shape keeps the input's dimension."""
    value, old = node.value(1), list(node.shape())
    late = late_shapes.expand_dims(node, value, old) if isinstance(value, Tensor) else None
    target = node.dims(1, "shape") if late is None else late
    rank = max(len(target), len(old))
    target = [1] * (rank - len(target)) + target
    padded = [1] * (rank - len(old)) + old
    dims = [_broadcast(node, a, b) for a, b in zip(padded, target, strict=True)]
    if late is not None:
        x = _reshaped(node, node.x(), padded)
        return _expanded(node, late_shapes.spread(node, node.emit(x), dims), dims)
    return _expanded(node, node.x(), dims)


def _expanded(node: Node, x: relax.Expr, dims: list[Dim]) -> relax.Expr:
    old = node.shape(x)
    if len(dims) == len(old) and all(same(a, b) for a, b in zip(dims, old, strict=True)):
        return x
    return relax.op.broadcast_to(x, relax.ShapeExpr(dims))


def _broadcast(node: Node, have: Dim, want: Dim) -> Dim:
    if isinstance(want, int) and want in (1, -1):
        return have
    if same(have, want) or (isinstance(have, int) and have == 1):
        return want
    if not isinstance(have, int) and not isinstance(want, int):
        return want  # the run time checks that they agree
    return node.refuse(f"dimension {have} cannot be expanded to {want}")


def concat(node: Node) -> relax.Expr:
    """Concat along ``axis``."""
    tensors = [node.x(i) for i in range(len(node.inputs))]
    if len(tensors) == 1:
        return tensors[0]
    axis = node.axis(1)
    shapes = [node.shape(x) for x in tensors]
    common = [agreed([s[i] for s in shapes]) for i in range(len(shapes[0]))]
    tensors = [
        cast_to(node, x, [s[i] if i == axis else d for i, d in enumerate(common)])
        for x, s in zip(tensors, shapes, strict=True)
    ]
    return relax.op.concat(tensors, axis)


def split(node: Node) -> list[relax.Expr]:
    """Split into given sizes, or into equal parts (the last may be smaller)."""
    axis, count = node.axis(0), node.outputs
    value = node.inputs[1] if node.has(1) else None
    parts = late_shapes.split_parts(node, axis, value) if isinstance(value, Tensor) else None
    if parts is not None:
        return parts
    sizes = node.ints(1, "split")
    if sizes is None:
        extent = node.shape()[axis]
        if not isinstance(extent, int):
            return _equal_parts(node, axis, extent, count)
        part = -(-extent // count)
        sizes = [min(part, extent - i * part) for i in range(count)]
    if len(sizes) == 1:
        return [node.x()]
    cuts = [int(c) for c in np.cumsum(sizes)[:-1]]
    if 0 in sizes:
        ends = zip([0, *cuts], [*cuts, sum(sizes)], strict=True)
        return [relax.op.strided_slice(node.x(), [axis], [a], [b]) for a, b in ends]
    parts = node.emit(relax.op.split(node.x(), cuts, axis))
    return [relax.TupleGetItem(parts, i) for i in range(len(sizes))]


def _equal_parts(node: Node, axis: int, extent: Dim, count: int) -> list[relax.Expr]:
    """A symbolic axis in equal parts, of which the last ones may be smaller."""
    part = tirx.floordiv(extent + (count - 1), as_expr(count))
    # Relax would branch on the sign of a place that is not the maximum of 0 and something.
    inner = [tirx.max(tirx.min(part * i, extent), as_expr(0)) for i in range(1, count)]
    cuts = [0, *inner, extent]
    return [
        relax.op.strided_slice(node.x(), [axis], [cuts[i]], [cuts[i + 1]]) for i in range(count)
    ]


def tile(node: Node) -> relax.Expr:
    """Tile; by symbolic repeats, a broadcast to ``[repeat, extent, ...]``, flattened."""
    repeats = node.dims(1, "repeats")
    if all(isinstance(r, int) for r in repeats):
        return relax.op.tile(node.x(), repeats)
    dims = node.shape()
    apart = node.emit(relax.op.reshape(node.x(), [n for d in dims for n in (1, d)]))
    pairs = list(zip(repeats, dims, strict=True))
    spread = relax.op.broadcast_to(apart, relax.ShapeExpr([n for pair in pairs for n in pair]))
    return relax.op.reshape(node.emit(spread), relax.ShapeExpr([product(pair) for pair in pairs]))


def constant_of_shape(node: Node) -> relax.Expr:
    """ConstantOfShape of a symbolic or large shape."""
    proto = node.attr("value")
    value = np.zeros(1, np.float32) if proto is None else carried(onnx.numpy_helper.to_array(proto))
    dims = node.dims(0, "shape")
    return relax.op.full(relax.ShapeExpr(dims), constant(value.reshape(())), str(value.dtype))


def eye_like(node: Node) -> Value:
    """EyeLike of a static shape: a constant."""
    rows, columns = node.static(node.shape(), "the shape of EyeLike")
    elem = node.attr("dtype")
    dtype = node.dtype() if elem is None else onnx.helper.tensor_dtype_to_np_dtype(elem)
    return Constant(np.eye(rows, columns, int(node.attr("k", 0)), dtype=dtype))


def range_(node: Node) -> relax.Expr:
    """Range whose limits are known, symbolic, or computed by the run."""
    if any(isinstance(value, Tensor) for value in node.inputs):
        return late_shapes.range_of(node)
    start, limit, delta = (node.dims(i, "limits")[0] for i in range(3))
    dtype = next((v.dtype for v in node.inputs if isinstance(v, Symbolic)), "int64")
    if all(isinstance(v, int) for v in (start, limit, delta)):
        count = max(0, -(-(limit - start) // delta))
        if count > MAX_ELEMENTS:
            node.refuse(f"a range of {count} elements")
    return relax.op.arange(start, limit, delta, dtype)


def trilu(node: Node) -> relax.Expr:
    """Trilu: the upper or lower triangles of matrices, from diagonal ``k`` on."""
    upper, dims = bool(node.attr("upper", 1)), node.shape()
    k = node.constant(1) if node.has(1) else np.array(0)
    if k is not None and 0 not in dims:
        triangle = relax.op.triu if upper else relax.op.tril
        return triangle(node.x(), int(k.reshape(-1)[0]))
    rows, columns = node.static(dims[-2:], "matrices whose diagonal k is known at run time")
    places = constant(np.arange(columns)[None, :] - np.arange(rows)[:, None])
    diagonal = relax.op.reshape(node.x(1), (1, 1)) if node.has(1) else node.scalar(0, "int64")
    kept = (relax.op.greater_equal if upper else relax.op.less_equal)(places, diagonal)
    return relax.op.where(kept, node.x(), node.scalar(0))


def depth_to_space(node: Node) -> relax.Expr:
    """DepthToSpace, DCR or CRD, of ``[N, C, H, W]``."""
    n, c, h, w = node.shape()
    b = int(node.attr("blocksize"))
    if node.attr("mode", "DCR") == "DCR":
        dims, perm = (n, b, b, c // (b * b), h, w), [0, 3, 4, 1, 5, 2]
    else:
        dims, perm = (n, c // (b * b), b, b, h, w), [0, 1, 4, 2, 5, 3]
    x = relax.op.permute_dims(relax.op.reshape(node.x(), dims), perm)
    return relax.op.reshape(x, (n, c // (b * b), h * b, w * b))


def space_to_depth(node: Node) -> relax.Expr:
    """SpaceToDepth of ``[N, C, H, W]``, the inverse of DepthToSpace in DCR or CRD order."""
    n, c, h, w = node.shape()
    b = int(node.attr("blocksize"))
    perm = [0, 3, 5, 1, 2, 4] if node.attr("mode", "DCR") == "DCR" else [0, 1, 3, 5, 2, 4]
    x = relax.op.reshape(node.x(), (n, c, h // b, b, w // b, b))
    return relax.op.reshape(relax.op.permute_dims(x, perm), (n, c * b * b, h // b, w // b))


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Expand": expand,
    "Concat": concat,
    "Split": split,
    "Tile": tile,
    "ConstantOfShape": constant_of_shape,
    "EyeLike": eye_like,
    "Range": range_,
    "Trilu": trilu,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}
