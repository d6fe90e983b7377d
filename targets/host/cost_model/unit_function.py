"""Units made by hand, in the form in which fusing cuts them from a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from tvm import relax, tirx

from motet.targets.host.options import KernelOptions
from motet.targets.host.space import Problem

SYMBOLIC = -1
"""The size of a problem that is known only at run time."""


@dataclass(frozen=True)
class Unit:
    """function: the unit. weights: parameters that a network has as constants. options: what
    the kernel is lowered with. values: of weights by which the kernel goes, not only computes.
    """

    function: relax.Function
    weights: frozenset[int]
    options: KernelOptions
    values: Mapping[int, NDArray[Any]] = field(default_factory=dict)


def unit_function(
    shapes: Sequence[Sequence[int | str]], dtypes: Sequence[str], build: Callable[..., Any]
) -> relax.Function:
    """``build(*params)`` as a unit, with all calls in one block, as units have them.

    A name instead of an extent makes it symbolic; equal names are the same symbol.
    """
    symbols: dict[str, tirx.Var] = {}

    def extent(d: int | str) -> Any:
        return symbols.setdefault(d, tirx.Var(d, "int64")) if isinstance(d, str) else d

    params = [
        relax.Var(f"p{i}", relax.TensorType([extent(d) for d in shape], dtype))
        for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
    ]
    builder = relax.BlockBuilder()
    with builder.function("unit", params):
        with builder.dataflow():
            result = builder.emit_output(build(*params))
        builder.emit_func_output(result)
    return builder.get()["unit"].without_attr("global_symbol")


def float_unit(shapes: Sequence[Sequence[int | str]], build: Callable[..., Any]) -> relax.Function:
    """``unit_function`` of float32 tensors."""
    return unit_function(shapes, ["float32"] * len(shapes), build)


def size_of(problem: Problem, name: str) -> int | str:
    """A size, or its name where it is symbolic."""
    return name if problem[name] == SYMBOLIC else problem[name]
