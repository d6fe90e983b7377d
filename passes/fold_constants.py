"""Computes at compile time what depends on constants alone (exact up to rounding).

The operators that exporters write between weights and layers (reshape, transpose,
cast, arithmetic) are evaluated by numpy. TVM's own ``FoldConstant`` compiles a kernel
for each call, 30 to 80 ms apiece; it gets what numpy has no entry for here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import IRModule, relax, transform
from tvm.relax.expr_functor import PyExprMutator, mutator

from motet.passes.graph import constant_array, map_functions, static_shape
from motet.passes.op_kinds import op_name
from motet.runtime.device import Array

LARGEST = 1 << 26
"""Elements. A result larger than this is left to the run time (it would bloat the bundle)."""

Evaluate = Callable[..., Array]

_UNARY: dict[str, Evaluate] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "exp": np.exp,
    "floor": np.floor,
    "log": np.log,
    "logical_not": np.logical_not,
    "negative": np.negative,
    "sqrt": np.sqrt,
    "square": np.square,
    "tanh": np.tanh,
}
_BINARY: dict[str, Evaluate] = {
    "add": np.add,
    "divide": np.divide,
    "equal": np.equal,
    "greater": np.greater,
    "less": np.less,
    "logical_and": np.logical_and,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "power": np.power,
    "subtract": np.subtract,
}
_BY_SHAPE = ("broadcast_to", "expand_dims", "flatten", "reshape", "squeeze")


def _divide_exactly(call: relax.Call) -> bool:
    """Integer division truncates in kernels and not in numpy: leave it alone."""
    return op_name(call) == "relax.divide" and not str(call.ty.dtype).startswith("float")


def evaluate(call: relax.Call) -> Array | None:
    """The value of a call whose tensor operands are constants; None where it has no entry."""
    shape = static_shape(call)
    if shape is None or np.prod(shape, dtype=np.int64) > LARGEST or _divide_exactly(call):
        return None
    name = op_name(call).removeprefix("relax.")
    tensors = [constant_array(argument) for argument in call.args]
    if not tensors or tensors[0] is None:
        return None
    first = tensors[0]
    if name in _BY_SHAPE:
        return np.broadcast_to(first, shape) if name == "broadcast_to" else first.reshape(shape)
    if name == "astype":
        return first.astype(str(call.ty.dtype))
    if name == "permute_dims":
        return np.transpose(first, _axes(call.attrs))
    if name in _UNARY:
        return _UNARY[name](first)
    if name in _BINARY and tensors[1] is not None:
        return _BINARY[name](first, tensors[1])
    return None


def _axes(attrs: Any) -> list[int] | None:
    return None if attrs.axes is None else [int(axis) for axis in attrs.axes]


@mutator
class _Folder(PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        visited = super().visit_call_(call)
        if not op_name(visited):
            return visited
        values = [self.lookup(argument) for argument in visited.args]
        if any(new is not old for new, old in zip(values, visited.args, strict=True)):
            visited = self.builder_.normalize(
                relax.Call(visited.op, values, visited.attrs, visited.ty_args, visited.span)
            )
        with np.errstate(all="ignore"):
            result = evaluate(visited)
        if result is None:
            return visited
        return relax.const(np.ascontiguousarray(result).reshape(result.shape), result.dtype.name)

    def lookup(self, expr: relax.Expr) -> relax.Expr:
        """The constant that a variable was folded to, else the expression itself."""
        if isinstance(expr, relax.Var):
            value = self.lookup_binding(expr)
            if value is not None and constant_array(value) is not None:
                return value
        return expr


@transform.module_pass(opt_level=0, name="fold_constants")
def fold_constants(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Fold in every function; what numpy has no entry for goes to TVM."""
    folded = map_functions(mod, lambda function: _Folder(mod).visit_expr(function))
    tidy = [relax.transform.CanonicalizeBindings(), relax.transform.FoldConstant()]
    return transform.Sequential(tidy)(folded)
