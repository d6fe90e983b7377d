"""Looking into and rewriting TIR expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Call, StringImm, TensorLoad
from tvm.ir.expr import Var

Expr = Any

_deep_equal = tvm_ffi.get_global_func("prim.expr_deep_equal")

_BINARY = (
    tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Mod, tirx.FloorDiv, tirx.FloorMod,
    tirx.Min, tirx.Max, tirx.EQ, tirx.NE, tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.And, tirx.Or,
    tirx.BitwiseAnd, tirx.BitwiseOr, tirx.BitwiseXor, tirx.LShift, tirx.RShift,
)  # fmt: skip
_LEAVES = (Var, tirx.IntImm, tirx.FloatImm, StringImm)


def children(expr: Expr) -> list[Expr]:
    """Direct sub-expressions, in order."""
    if isinstance(expr, _BINARY):
        return [expr.a, expr.b]
    if isinstance(expr, tirx.Cast | tirx.Broadcast):
        return [expr.value]
    if isinstance(expr, tirx.Not | tirx.BitwiseNot):
        return [expr.a]
    if isinstance(expr, tirx.Select):
        return [expr.condition, expr.true_value, expr.false_value]
    if isinstance(expr, TensorLoad):
        return list(expr.indices)
    if isinstance(expr, Call):
        return list(expr.args)
    if isinstance(expr, tirx.Let):
        return [expr.value, expr.body]
    if isinstance(expr, _LEAVES):
        return []
    # Overlooked children would keep the variables of a loop that is no more.
    raise TypeError(f"no rule for the parts of a {type(expr).__name__}")


def _rebuild(expr: Expr, parts: Sequence[Expr]) -> Expr:
    if isinstance(expr, _BINARY):
        return type(expr)(*parts)
    if isinstance(expr, tirx.Cast):
        return tirx.Cast(expr.ty, parts[0])
    if isinstance(expr, tirx.Broadcast):
        return tirx.Broadcast(parts[0], expr.lanes)
    if isinstance(expr, tirx.Not | tirx.BitwiseNot):
        return type(expr)(parts[0])
    if isinstance(expr, tirx.Select):
        return tirx.Select(*parts)
    if isinstance(expr, TensorLoad):
        return tirx.BufferLoad(expr.source, list(parts))
    if isinstance(expr, Call):
        return Call(expr.op, list(parts), expr.attrs, expr.ty_args, expr.span, expr.ty)
    return tirx.Let(expr.var, parts[0], parts[1])


def rewrite(expr: Expr, replace: Callable[[Expr], Expr | None]) -> Expr:
    """``expr`` bottom up, with each node for which ``replace`` gives another replaced."""
    old = children(expr)
    if old:
        new = [rewrite(child, replace) for child in old]
        if any(a is not b for a, b in zip(old, new, strict=True)):
            expr = _rebuild(expr, new)
    replaced = replace(expr)
    return expr if replaced is None else replaced


def substitute(expr: Expr, values: Mapping[Var, Expr]) -> Expr:
    """``expr`` with variables replaced, and those it binds itself renewed.

    A kernel may hold an expression several times, say for vectors and for the rest; TVM's
    simplifier asks that a variable is bound to one value only.
    """
    own = {e.var: tirx.Var(e.var.name, e.var.ty) for e in walk(expr) if isinstance(e, tirx.Let)}
    new = {**values, **own}

    def replaced(e: Expr) -> Expr | None:
        if isinstance(e, tirx.Let):
            return tirx.Let(own[e.var], e.value, e.body)
        return new.get(e) if isinstance(e, Var) else None

    return rewrite(expr, replaced)


def walk(expr: Expr) -> list[Expr]:
    """``expr`` and all its sub-expressions, parents after children."""
    found: list[Expr] = []
    for child in children(expr):
        found.extend(walk(child))
    found.append(expr)
    return found


def loads(expr: Expr) -> list[TensorLoad]:
    """Every buffer load in ``expr``, repeats included."""
    return [e for e in walk(expr) if isinstance(e, TensorLoad)]


def is_axis(expr: Expr, axis: Var) -> bool:
    """Whether ``expr`` is the variable ``axis`` and nothing else."""
    return isinstance(expr, Var) and bool(expr.same_as(axis))


def mentions(expr: Expr, *variables: Var) -> bool:
    """Whether ``expr`` depends on one of ``variables``."""
    return any(is_axis(e, v) for e in walk(expr) for v in variables)


def same_expr(a: Expr, b: Expr) -> bool:
    """Whether two expressions are written alike, variables being themselves."""
    return bool(_deep_equal(a, b))
