"""Computes at compile time what depends on constants alone (exact up to rounding).

The operators that exporters write between weights and layers (reshape, transpose,
cast, arithmetic) are evaluated by ``evaluate``, in numpy; any other operator on
constants is compiled and run by TVM, 30 to 80 ms apiece. What stays for the run time:
results larger than ``LARGEST``, and integer division by zero.
"""

from __future__ import annotations

import numpy as np
from tvm import IRModule, relax, transform
from tvm.ir.expr import GenericConst

from motet.passes.evaluate import divides_by_zero, evaluate
from motet.passes.graph import definitions, elements_of
from motet.passes.op_kinds import op_name
from motet.passes.rewrite import Rewriter, rewrite_functions
from motet.runtime.device import Array

LARGEST = 1 << 26
"""Elements. A result larger than this is left to the run time (it would bloat the bundle)."""

_SHAPE_OPERATORS = ("relax.shape_to_tensor", "relax.tensor_to_shape")


def _tensors(call: relax.Call) -> list[Array] | None:
    """The values of the tensor operands; None where one is no constant, or there is none."""
    arrays: list[Array] = []
    for argument in call.args[:]:
        fields = argument.fields[:] if isinstance(argument, relax.Tuple) else [argument]
        for item in fields:
            if isinstance(item, GenericConst):
                arrays.append(item.value.numpy())
            elif isinstance(item.ty, (relax.TensorType, relax.TupleType, relax.AnyType)):
                return None
    return arrays or None


def folded(call: relax.Call) -> relax.Expr | None:
    """The constant (or shape) that ``call`` computes, None where it is for the run time."""
    if op_name(call) in _SHAPE_OPERATORS:
        return _by_tvm(call)
    elements, tensors = elements_of(call.ty), _tensors(call)
    if elements is None or tensors is None or elements > LARGEST:
        return None
    if divides_by_zero(call, tensors):
        return None
    result = evaluate(call, tensors)
    if result is None:
        return _by_tvm(call)
    return relax.const(np.ascontiguousarray(result).reshape(result.shape), result.dtype.name)


def _by_tvm(call: relax.Call) -> relax.Expr | None:
    """What TVM's ``FoldConstant`` makes of ``call``; its operands hold no variable."""
    if any(relax.analysis.free_vars(argument) for argument in call.args):
        return None
    builder = relax.BlockBuilder()
    with builder.function("main", []):
        with builder.dataflow():
            output = builder.emit_output(call)
        builder.emit_func_output(output)
    function = relax.transform.FoldConstant()(builder.get())["main"]
    result = function.body.body
    bound = definitions(function)
    while result in bound:
        result = bound[result]
    return result if _is_known(result) else None


def _is_known(expr: relax.Expr) -> bool:
    if isinstance(expr, relax.Tuple):
        return all(_is_known(field) for field in expr.fields)
    return isinstance(expr, (GenericConst, relax.ShapeExpr))


class _Folder(Rewriter):
    def __init__(self) -> None:
        super().__init__()
        self.tuples: dict[relax.Var, relax.Tuple] = {}

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if isinstance(value, relax.TupleGetItem) and value.tuple_value in self.tuples:
            return self.tuples[value.tuple_value].fields[value.index]
        if not op_name(value):
            return value
        result = folded(value)
        if isinstance(result, relax.Tuple):
            self.tuples[variable] = result
        return value if result is None else result


@transform.module_pass(opt_level=0, name="fold_constants")
def fold_constants(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Fold in every function."""
    return rewrite_functions(mod, _Folder)
