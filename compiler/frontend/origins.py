"""Where a value that must be known at compile time comes from: which inputs, which sizes.

A converter that needs a value says so in its refusal. The bindings made so far are
walked back from the value to the function's parameters; the error then names the inputs
that a user (or ``motet.backend``) may fix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tvm import relax, tirx
from tvm.relax.analysis import free_vars
from tvm.tirx.analysis import undefined_vars

from motet.runtime.errors import ValueNeededError

from .values import Symbolic, Tensor, Value

Parameters = Mapping[str, relax.Var]


def value_needed(
    message: str, value: Value, builder: relax.BlockBuilder, parameters: Parameters
) -> ValueNeededError:
    """The error for a refusal that ``value`` causes; ``message`` names model and node."""
    variables, symbols = _ancestors(value, builder)
    inputs = [name for name, var in parameters.items() if any(var.same_as(v) for v in variables)]
    sized = [name for name, var in parameters.items() if _sizes(var) & symbols]
    return ValueNeededError(
        f"{message}{_remedy(inputs, sized, parameters)}", tuple(inputs), tuple(sized)
    )


def _remedy(inputs: list[str], sized: list[str], parameters: Parameters) -> str:
    """What the user can do about it, with the names filled in."""
    small = [name for name in inputs if _is_parameter(parameters[name])]
    remedies = [f"--value {name}=..." for name in small]
    remedies += [f"--shape {name}:..." for name in sized if name not in small]
    if remedies:
        return f"; fix it with {' '.join(remedies)}"
    if inputs:
        return f"; it depends on the data of input '{inputs[0]}'"
    return ""


def _is_parameter(var: relax.Var) -> bool:
    """Whether an input looks like axes, sizes or bounds rather than data."""
    return not str(var.ty.dtype).startswith(("float", "bfloat")) or int(var.ty.ndim) <= 1


def _ancestors(value: Value, builder: relax.BlockBuilder) -> tuple[list[relax.Var], set[str]]:
    """Variables and symbolic dimensions that ``value`` is computed from, itself included."""
    symbols: set[str] = set()
    if isinstance(value, Symbolic):
        symbols.update(name for dim in value.dims.flat for name in _names(dim))
    found: list[relax.Var] = []
    seen: set[Any] = set()
    pending = list(_variables(value.expr, symbols)) if isinstance(value, Tensor) else []
    while pending:
        var = pending.pop()
        if var in seen:
            continue
        seen.add(var)
        found.append(var)
        bound = builder.lookup_binding(var)
        if bound is not None:
            pending.extend(_variables(bound, symbols))
    return found, symbols


def _variables(expr: relax.Expr, symbols: set[str]) -> Iterator[relax.Var]:
    """Variables that ``expr`` reads; the dimensions it reads as values go to ``symbols``."""
    if isinstance(expr, relax.Call):
        for argument in expr.args:
            if isinstance(argument, relax.ShapeExpr):
                symbols.update(name for dim in argument.values for name in _names(dim))
    yield from free_vars(expr)


def _names(dim: Any) -> set[str]:
    if not isinstance(dim, tirx.Expr):
        return set()
    return {str(var.name) for var in undefined_vars(dim)}


def _sizes(var: relax.Var) -> set[str]:
    shape = var.ty.shape
    values = shape.values if isinstance(shape, relax.ShapeExpr) else ()
    return {name for dim in values for name in _names(dim)}
