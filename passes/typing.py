"""Giving a new Relax expression the type of the one it replaces."""

from __future__ import annotations

from typing import TypeVar

from tvm import relax
from tvm.ir import Type

E = TypeVar("E", bound=relax.Expr)


def is_typed(expr: relax.Expr) -> bool:
    """Whether type information is there; a bare ``Type`` means it is missing."""
    return type(expr.ty) is not Type


def with_type(expr: E, ty: Type) -> E:
    """``expr`` with type ``ty``, where it has none yet (TVM refuses to set it twice)."""
    if not is_typed(expr) and type(ty) is not Type:
        relax.expr._update_type(expr, ty)
    return expr
