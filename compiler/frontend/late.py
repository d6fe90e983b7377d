"""Dimensions that depend on data: integers that the run computes become new symbols.

``relax.tensor_to_shape`` reads an int64 tensor of known length as a shape, which
``match_cast`` gives new symbols; the VM binds them when it gets there. From then on they
are dimensions like those of the inputs, and a negative value is refused when it is met.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, tirx
from tvm.ir import GenericConst

from .limits import RUNNABLE
from .node_view import NodeView
from .origins import note_source
from .values import Dim, Tensor, as_dim, shape_value

MAX_LENGTH = 64
"""Elements of a tensor that is read as a shape."""

Piece = list[Any] | Any
"""Dimensions that are known or symbolic, or a vector of integers that the run computes."""


def bind(node: NodeView, vector: relax.Expr, what: Sequence[str]) -> list[Dim]:
    """New dimensions with the values of an int64 vector, called ``<operator>_<number>_<what>``."""
    symbols = new_symbols(node, what)
    shape = node.emit(relax.op.tensor_to_shape(vector))
    node.builder.match_cast(shape, relax.ShapeType(symbols))
    note_source(node.builder, symbols, vector)
    return symbols


def new_symbols(node: NodeView, what: Sequence[str]) -> list[tirx.Var]:
    """New dimensions, called ``<operator>_<number>_<what>``."""
    number = _next_number(node)
    return [tirx.Var(f"{node.op_type.lower()}_{number}_{name}", "int64") for name in what]


def _next_number(node: NodeView) -> int:
    """How often the import has bound dimensions for nodes of this operator."""
    # One import has one builder, so that equal models get equal names.
    counts = node.builder.__dict__.setdefault("late_dimensions", {})
    counts[node.op_type] = counts.get(node.op_type, -1) + 1
    return int(counts[node.op_type])


def length_of(expr: relax.Expr) -> int | None:
    """Elements of a tensor of integers that can be read as a shape, else None."""
    ty = expr.ty
    if not isinstance(ty, relax.TensorType) or not isinstance(ty.shape, relax.ShapeExpr):
        return None
    dims = [as_dim(dim) for dim in ty.shape.values]
    if len(dims) > 1 or str(ty.dtype) not in RUNNABLE or not str(ty.dtype).startswith("int"):
        return None
    length = dims[0] if dims else 1
    return length if isinstance(length, int) and length <= MAX_LENGTH else None


def vector_of(node: NodeView, expr: relax.Expr) -> relax.Expr:
    """An integer tensor of rank 0 or 1 as an int64 vector."""
    if node.dtype(expr) != "int64":
        expr = node.emit(relax.op.astype(expr, "int64"))
    return expr if node.rank(expr) == 1 else node.emit(relax.op.reshape(expr, [1]))


def pieces(node: NodeView, expr: relax.Expr) -> list[Piece]:
    """What a vector was put together from: its known parts, and those that the run computes."""
    if isinstance(expr, GenericConst):
        return [[int(v) for v in expr.value.numpy().reshape(-1)]]
    bound = node.builder.lookup_binding(expr) if isinstance(expr, relax.Var) else None
    if not isinstance(bound, relax.Call):
        return [expr]
    name, source = str(bound.op.name), bound.args[0]
    if name == "relax.shape_to_tensor" and isinstance(source, relax.ShapeExpr):
        return [[as_dim(dim) for dim in source.values]]
    if name == "relax.concat":
        return [piece for item in source.fields for piece in pieces(node, item)]
    moves = name in ("relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.astype")
    if moves and length_of(expr) == 1 and length_of(source) == 1:
        return pieces(node, source)
    return [expr]


def dims_of(
    node: NodeView,
    value: Tensor,
    what: str,
    fixed: Callable[[relax.Expr, int], relax.Expr] | None = None,
) -> list[Dim] | None:
    """The elements of ``value`` as dimensions; None where it cannot be read as a shape.

    fixed: makes dimensions of what a piece of the vector says; takes and returns an int64
    vector, and is told where in the whole it begins.
    """
    if length_of(value.expr) is None:
        return None
    result: list[Dim] = []
    for piece in pieces(node, value.expr):
        if isinstance(piece, list):
            result += piece
            continue
        vector = vector_of(node, piece)
        start, length = len(result), length_of(piece) or 0
        if fixed is not None:
            vector = node.emit(fixed(vector, start))
        names = [what] if length == 1 else [f"{what}{start + i}" for i in range(length)]
        result += bind(node, vector, names) if length else []
    return result


def as_vector(node: NodeView, dims: Sequence[Dim]) -> relax.Expr:
    """Dimensions as an int64 vector."""
    return node.tensor(shape_value(list(dims)))


def number(node: NodeView, value: int) -> relax.Expr:
    """An int64 scalar constant."""
    return node.scalar(value, "int64")


def chosen(node: NodeView, condition: relax.Expr, one: Any, other: Any) -> relax.Expr:
    """``where``, bound to a variable."""
    return node.emit(relax.op.where(condition, one, other))


def first(node: NodeView, x: relax.Expr, count: Dim, axis: int = 0) -> relax.Expr:
    """The first ``count`` entries of an axis, which has at least as many."""
    return part(node, x, axis, 0, count)


def part(node: NodeView, x: relax.Expr, axis: int, start: Dim, count: Dim) -> relax.Expr:
    """``count`` entries of an axis from ``start`` on; the axis has them."""
    begin = start if isinstance(start, int) else tirx.max(start, tirx.const(0, "int64"))
    end = start + count
    end = end if isinstance(end, int) else tirx.max(end, tirx.const(0, "int64"))
    cut = node.emit(relax.op.strided_slice(x, [axis], [begin], [end]))
    # Relax does not know that the axis is long enough: its extent would be a minimum.
    dims = [count if i == axis else d for i, d in enumerate(node.shape(x))]
    return reshaped(node, cut, dims)


def reshaped(node: NodeView, x: relax.Expr, dims: Sequence[Dim]) -> relax.Expr:
    """``x`` with shape ``dims``, in which Relax would take a 0 for "as it was"."""
    if any(isinstance(d, int) and d == 0 for d in dims):
        return node.emit(relax.op.zeros(relax.ShapeExpr(list(dims)), node.dtype(x)))
    return node.emit(relax.op.reshape(x, relax.ShapeExpr(list(dims))))
