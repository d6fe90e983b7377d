"""Where a value that must be known at compile time comes from: which inputs, which sizes.

A converter that needs a value says so in its refusal. The bindings made so far are
walked back from the value to the function's parameters; the error then names the inputs
that a user (or ``motet.backend``) may fix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tvm import relax, tirx
from tvm.relax.analysis import free_vars
from tvm.tirx.analysis import undefined_vars

from motet.runtime.errors import ValueNeededError

from .values import Symbolic, Tensor, Value

Parameters = Mapping[str, relax.Var]
_SOURCES = "motet_sources_of_dimensions"


def value_needed(
    message: str, value: Value, builder: relax.BlockBuilder, parameters: Parameters
) -> ValueNeededError:
    """The error for a refusal that ``value`` causes; ``message`` names model and node."""
    ancestors = _ancestors(value, builder)
    inputs = [name for name, var in parameters.items() if var in ancestors]
    sized = [name for name, var in parameters.items() if _sizes(var) & ancestors]
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


def note_source(builder: relax.BlockBuilder, symbols: Sequence[tirx.Var], expr: relax.Expr) -> None:
    """Remember that the run reads the new dimensions ``symbols`` off ``expr``."""
    builder.__dict__.setdefault(_SOURCES, {}).update((symbol, expr) for symbol in symbols)


def _ancestors(value: Value, builder: relax.BlockBuilder) -> set[relax.Var]:
    """Variables and symbolic dimensions that ``value`` is computed from, itself included.

    TVM has one class for both.
    """
    sources = builder.__dict__.get(_SOURCES, {})
    found: set[relax.Var] = set()
    pending: list[relax.Var] = []
    if isinstance(value, Symbolic):
        pending.extend(symbol for dim in value.dims.flat for symbol in _symbols(dim))
    elif isinstance(value, Tensor):
        pending.extend(_read(value.expr))
    while pending:
        var = pending.pop()
        if var in found:
            continue
        found.add(var)
        bound = sources[var] if var in sources else builder.lookup_binding(var)
        if bound is not None:
            pending.extend(_read(bound))
    return found


def _read(expr: relax.Expr) -> Iterator[Any]:
    """Variables that ``expr`` reads, and the dimensions that it reads as values."""
    if isinstance(expr, relax.Call):
        for argument in expr.args:
            if isinstance(argument, relax.ShapeExpr):
                yield from (symbol for dim in argument.values for symbol in _symbols(dim))
    yield from free_vars(expr)


def _symbols(dim: Any) -> list[tirx.Var]:
    return list(undefined_vars(dim)) if isinstance(dim, tirx.Expr) else []


def _sizes(var: relax.Var) -> set[tirx.Var]:
    shape = var.ty.shape
    values = shape.values if isinstance(shape, relax.ShapeExpr) else ()
    return {symbol for dim in values for symbol in _symbols(dim)}
