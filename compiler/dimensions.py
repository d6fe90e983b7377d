"""TVM's symbolic expressions as the run time's dimensions."""

from __future__ import annotations

from typing import Any

from tvm import relax, sym, tirx
from tvm.ir import Expr

from motet.runtime.errors import CompileError
from motet.runtime.shapes import Dimension, Expression, Operation, Shape

_OPERATIONS: tuple[tuple[Any, Operation], ...] = (
    (tirx.Add, "+"),
    (tirx.Sub, "-"),
    (tirx.Mul, "*"),
    (tirx.FloorDiv, "//"),
    (tirx.FloorMod, "%"),
    (tirx.Min, "min"),
    (tirx.Max, "max"),
)


def dimension_of(expr: Expr) -> Dimension:
    """The dimension that ``expr`` stands for; raises ``CompileError`` on other arithmetic."""
    return _convert(sym.Analyzer().simplify(expr))


def _convert(expr: Expr) -> Dimension:
    if isinstance(expr, int):
        return expr
    if isinstance(expr, tirx.IntImm):
        return int(expr.value)
    if isinstance(expr, tirx.Var):
        return str(expr.name)
    if isinstance(expr, tirx.Cast):
        return _convert(expr.value)
    for node, operation in _OPERATIONS:
        if isinstance(expr, node):
            return Expression(operation, _convert(expr.a), _convert(expr.b))
    raise CompileError(f"a shape needs {expr}, which the run time cannot evaluate")


def shape_of(tensor: relax.TensorType) -> Shape:
    """The shape of a tensor type; raises ``CompileError`` where it depends on data."""
    values = getattr(tensor.shape, "values", None)
    if values is None:
        raise CompileError(
            "the shape of its value depends on data, which the VM cannot run yet; "
            "fix the input shapes with --shape where that helps"
        )
    return tuple(dimension_of(value) for value in values)


def is_empty(ty: relax.Type) -> bool:
    """Whether no value of this type has an element, so that no kernel need fill it."""
    if isinstance(ty, relax.TupleType):
        return all(is_empty(part) for part in ty.fields)
    return 0 in shape_of(ty)


def added(left: Dimension, right: Dimension) -> Dimension:
    """The sum of two dimensions; zeros and constants are folded."""
    if isinstance(left, int) and isinstance(right, int):
        return left + right
    if right == 0:
        return left
    return right if left == 0 else Expression("+", left, right)
