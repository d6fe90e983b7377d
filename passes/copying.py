"""Copies of functions with variables of their own.

TVM's ``copy_with_new_vars`` infers every type anew, which takes a millisecond for a convolution
(its layouts). What has no symbols, whose copies must be new too, and no branches is copied here
with the types that it has.
"""

from __future__ import annotations

from tvm import relax
from tvm.relax.utils import copy_with_new_vars

from motet.passes.graph import bindings_of, block_like, symbols_in
from motet.passes.typing import with_type


def with_own_variables(function: relax.Function) -> relax.Function:
    """``function`` with new variables, and new symbols where it has some; names stay."""
    if not _is_simple(function):
        return copy_with_new_vars(function)
    new = {param: relax.Var(param.name, param.ty) for param in function.params[:]}
    params = list(new.values())
    body = function.body
    blocks = [_block(block, new) for block in body.blocks[:]]
    copied = with_type(relax.SeqExpr(blocks, _expr(body.body, new), body.span), body.ty)
    return relax.Function(
        params, copied, function.ret_ty, function.is_pure, function.attrs, function.span
    )


def _is_simple(function: relax.Function) -> bool:
    """Whether it has neither symbols nor anything but plain bindings of calls."""
    bindings = list(bindings_of(function))
    plain = all(
        isinstance(binding, relax.VarBinding)
        and isinstance(binding.value, (relax.Call, relax.Tuple, relax.TupleGetItem, relax.Var))
        for binding in bindings
    )
    return plain and not any(
        symbols_in(expr) for expr in (*function.params[:], *(b.value for b in bindings))
    )


def _block(block: relax.BindingBlock, new: dict[relax.Var, relax.Var]) -> relax.BindingBlock:
    bindings = []
    for binding in block.bindings[:]:
        value = _expr(binding.value, new)
        variable = type(binding.var)(binding.var.name, binding.var.ty)
        new[binding.var] = variable
        bindings.append(relax.VarBinding(variable, value, binding.span))
    return block_like(block, bindings)


def _expr(expr: relax.Expr, new: dict[relax.Var, relax.Var]) -> relax.Expr:
    if isinstance(expr, relax.Var):
        return new[expr]
    if isinstance(expr, relax.Tuple):
        fields = [_expr(field, new) for field in expr.fields[:]]
        return with_type(relax.Tuple(fields, expr.span), expr.ty)
    if isinstance(expr, relax.TupleGetItem):
        whole = _expr(expr.tuple_value, new)
        return with_type(relax.TupleGetItem(whole, expr.index, expr.span), expr.ty)
    if isinstance(expr, relax.Call):
        args = [_expr(argument, new) for argument in expr.args[:]]
        return with_type(relax.Call(expr.op, args, expr.attrs, expr.ty_args, expr.span), expr.ty)
    return expr
