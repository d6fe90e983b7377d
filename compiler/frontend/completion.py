"""Tensors whose shape Relax could not derive get one: known dimensions, fresh ones for the rest.

Where two symbolic dimensions must be equal for the model to be right but are not provably
so, the run time checks it (``match_cast``), as ONNX's own shape rules leave it to the run.
"""

from __future__ import annotations

from typing import Any

from tvm import relax, tirx

from .node import Node
from .shape_data import same
from .values import Dim, as_dim

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
        node.refuse("the rank of its output is only known at run time")
    dims = _broadcast_dims(node, ty.ndim) if node.op_type in _BROADCASTING else [None] * ty.ndim
    shape = [fresh(i) if d is None else d for i, d in enumerate(dims)]
    return builder.match_cast(expr, relax.TensorType(shape, ty.dtype))


def fresh(axis: int) -> tirx.Var:
    """A new symbolic dimension."""
    return tirx.Var(f"d{axis}", "int64")


def _broadcast_dims(node: Node, rank: int) -> list[Dim | None]:
    shapes = [node.shape(node.tensor(v)) for v in node.inputs if v is not None]
    return [
        _broadcast_dim([s[i - rank] for s in shapes if i - rank >= -len(s)]) for i in range(rank)
    ]


def _broadcast_dim(dims: list[Dim]) -> Dim | None:
    """One dimension of a broadcast: a fixed size above 1, or what all others are equal to."""
    fixed = [d for d in dims if isinstance(d, int) and d > 1]
    if fixed:
        return fixed[0]
    symbolic = [d for d in dims if not isinstance(d, int)]
    if not symbolic:
        return 1
    return symbolic[0] if all(same(symbolic[0], d) for d in symbolic[1:]) else None


def cast_to(node: Node, expr: relax.Expr, dims: list[Dim]) -> relax.Expr:
    """``expr`` with shape ``dims``, checked at run time unless it provably has that shape."""
    have = node.shape(expr)
    if all(same(a, b) for a, b in zip(have, dims, strict=True)):
        return expr
    return node.builder.match_cast(node.emit(expr), relax.TensorType(dims, node.dtype(expr)))


def agreed(dims: list[Dim]) -> Dim:
    """The dimension that equal ones are cast to: a fixed one where there is one."""
    plain: list[Any] = [as_dim(d) for d in dims]
    return next((d for d in plain if isinstance(d, int)), plain[0])
