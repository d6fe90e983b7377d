"""A kernel's parameters are tensors alone: symbolic sizes are read off their shapes.

A size such as ``2 * tokens`` does not say to the calling convention what ``tokens`` is, so
TVM would ask for it as a further argument. Here such tensors get plain sizes of their own,
and ``tokens`` is computed from them at the kernel's entry.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx
from tvm.ir.expr import Var

from motet.runtime.errors import CompileError
from motet.targets.host.exprs import mentions, walk
from motet.targets.host.loops import Buffer, Expr, Stmt, index, simplify


def solve(expr: Expr, var: Var, value: Expr) -> Expr | None:
    """A ``var`` for which ``expr`` is ``value``, of several any; None where none is known."""
    if isinstance(expr, Var):
        return value
    if isinstance(expr, tirx.Add | tirx.Mul):
        inner, other = (expr.a, expr.b) if mentions(expr.a, var) else (expr.b, expr.a)
        if mentions(other, var):
            return None
        rest = value - other if isinstance(expr, tirx.Add) else tirx.floordiv(value, other)
        return solve(inner, var, rest)
    if isinstance(expr, tirx.Sub) and not mentions(expr.b, var):
        return solve(expr.a, var, value + expr.b)
    if isinstance(expr, tirx.Sub) and not mentions(expr.a, var):
        return solve(expr.b, var, expr.a - value)
    if isinstance(expr, tirx.FloorDiv) and not mentions(expr.b, var):
        return solve(expr.a, var, value * expr.b)
    return None


def is_buffer(param: Var) -> bool:
    """Whether a parameter is a tensor, not a size."""
    return isinstance(param.ty, tirx.BufferType)


def _open_sizes(tensors: Sequence[Buffer]) -> list[Var]:
    """Sizes that occur in shapes, but never as a whole dimension."""
    dimensions = [d for b in tensors for d in b.shape]
    bound = {d for d in dimensions if isinstance(d, Var)}
    inner = [e for d in dimensions for e in walk(d) if isinstance(e, Var)]
    return list(dict.fromkeys(v for v in inner if v not in bound))


def _plain(buffer: Buffer, number: int, sizes: Sequence[Var]) -> Buffer:
    """``buffer`` with sizes of its own where its dimensions mention ``sizes``."""
    own = [any(mentions(d, s) for s in sizes) for d in buffer.shape]
    if not any(own):
        return buffer
    shape = [
        tirx.Var(f"size{number}_{axis}", "int64") if new else d
        for axis, (d, new) in enumerate(zip(buffer.shape, own, strict=True))
    ]
    return tirx.decl_buffer(shape, buffer.dtype, buffer.name)


def tensors_only(params: Sequence[Var], body: Stmt) -> tuple[list[Buffer], Stmt]:
    """The tensors of ``params``, and ``body`` after statements that define the sizes.

    Raises ``CompileError`` for a size that no tensor's shape determines.
    """
    tensors = [p for p in params if is_buffer(p)]
    sizes = _open_sizes(tensors)
    if not sizes:
        return tensors, body
    plain = [_plain(b, number, sizes) for number, b in enumerate(tensors)]
    binds = [tirx.Bind(size, _definition(size, sizes, tensors, plain)) for size in sizes]
    aliases = [
        tirx.DeclBuffer(old, data=new.data)
        for old, new in zip(tensors, plain, strict=True)
        if not old.same_as(new)
    ]
    return plain, tirx.SeqStmt([*binds, *aliases, body])


def _definition(
    size: Var, sizes: Sequence[Var], tensors: Sequence[Buffer], plain: Sequence[Buffer]
) -> Expr:
    others = [s for s in sizes if not s.same_as(size)]
    for old, new in zip(tensors, plain, strict=True):
        for expr, value in zip(old.shape, new.shape, strict=True):
            if not mentions(expr, size) or any(mentions(expr, s) for s in others):
                continue
            found = solve(expr, size, index(value))
            if found is not None:
                return simplify(found)
    raise CompileError(
        f"the size '{size.name}' cannot be told from the shapes of the operator's inputs; "
        "give the model's inputs fixed shapes"
    )
