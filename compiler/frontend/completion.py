"""Tensors whose shape Relax could not derive get one: known dimensions, fresh ones for the rest.

Where two symbolic dimensions must be equal for the model to be right but are not provably
so, the run time checks it (``match_cast``), as ONNX's own shape rules leave it to the run.
"""

from __future__ import annotations

from typing import Any

from tvm import relax, tirx

from .late import new_symbols
from .node import Node
from .origins import note_source
from .shape_data import same
from .values import Constant, Dim, Symbolic, Tensor, Value, as_dim

_BROADCASTING_NAMES = """
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less
    LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor
"""
_BROADCASTING = frozenset(_BROADCASTING_NAMES.split())


def completed(builder: relax.BlockBuilder, expr: relax.Expr, node: Node) -> relax.Expr:
    """``expr`` with a shape, cast at run time where Relax left it open."""
    ty = expr.ty
    if not isinstance(ty, relax.TensorType) or isinstance(ty.shape, relax.ShapeExpr):
        return expr
    if ty.ndim < 0:
        node.refuse("the rank of its output is only known at run time", Tensor(expr))
    dims = new_symbols(node, [f"dim{i}" for i in range(ty.ndim)])
    note_source(builder, dims, expr)
    return builder.match_cast(expr, relax.TensorType(dims, ty.dtype))


def broadcastable(node: Node) -> list[Value | None]:
    """The inputs of a node that broadcasts, so cast that Relax can derive the output's shape.

    Symbolic dimensions that meet are taken for equal, as models from exporters mean them:
    one that is 1 at run time and meets a larger one is refused there.
    """
    if node.op_type not in _BROADCASTING or all(isinstance(v, Constant) for v in node.inputs):
        return list(node.inputs)
    shapes = [None if v is None else _dims(node, v) for v in node.inputs]
    rank = max(len(s) for s in shapes if s is not None)
    padded = [s and [1] * (rank - len(s)) + s for s in shapes]
    target = [meeting([s[i] for s in padded if s]) for i in range(rank)]
    return [
        value if shape is None or value is None else _cast(node, value, shape, target)
        for value, shape in zip(node.inputs, shapes, strict=True)
    ]


def _dims(node: Node, value: Value) -> list[Dim]:
    if isinstance(value, Symbolic):
        return list(value.dims.shape)
    return list(
        value.array.shape if isinstance(value, Constant) else node.shape(node.tensor(value))
    )


def meeting(dims: list[Dim]) -> Dim:
    """What dimensions of one axis are taken for: a size above 1, a plain symbol, or any."""
    wide = [d for d in dims if not (isinstance(d, int) and d == 1)]
    fixed = [d for d in wide if isinstance(d, int)]
    plain = [d for d in wide if isinstance(d, tirx.Var)]
    return (*fixed, *plain, *wide, 1)[0]


def _cast(node: Node, value: Value, shape: list[Dim], target: list[Dim]) -> Value:
    """``value`` with its symbolic dimensions as in ``target``."""
    if not isinstance(value, Tensor):
        return value
    last = target[len(target) - len(shape) :]
    dims = [d if isinstance(d, int) else t for d, t in zip(shape, last, strict=True)]
    return Tensor(cast_to(node, value.expr, dims))


def cast_to(node: Node, expr: relax.Expr, dims: list[Dim]) -> relax.Expr:
    """``expr`` with shape ``dims``, checked at run time unless it provably has that shape."""
    have = list(node.shape(expr))
    for axis, dim in enumerate(dims):  # one by one: the run time compares numbers of elements
        if not same(have[axis], dim):
            have[axis] = dim
            expr = node.emit(relax.op.reshape(expr, relax.ShapeExpr(have)))
    return expr


def agreed(dims: list[Dim]) -> Dim:
    """The dimension that equal ones are cast to: a fixed one where there is one."""
    plain: list[Any] = [as_dim(d) for d in dims]
    return next((d for d in plain if isinstance(d, int)), plain[0])
