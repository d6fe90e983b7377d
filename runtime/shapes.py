"""Shape expressions over symbolic dimensions, bound once per distinct input shape.

A dimension is an integer, the name of a symbol (``"N"``), or an ``Expression`` of
two dimensions. Symbols are bound by the inputs of a program, where they stand alone.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

Operation = Literal["+", "-", "*", "//", "%", "min", "max"]


class Expression(msgspec.Struct, frozen=True, array_like=True):
    """``left operation right``; integer division and remainder round down."""

    operation: Operation
    left: Dimension
    right: Dimension


Dimension = int | str | Expression
Shape = tuple[Dimension, ...]
Bindings = Mapping[str, int]

_APPLY: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "min": min,
    "max": max,
}


def evaluate(dimension: Dimension, bindings: Bindings) -> int:
    """The value of a dimension; raises ``KeyError`` on an unbound symbol."""
    if isinstance(dimension, int):
        return dimension
    if isinstance(dimension, str):
        return bindings[dimension]
    apply = _APPLY[dimension.operation]
    return apply(evaluate(dimension.left, bindings), evaluate(dimension.right, bindings))


def evaluate_shape(shape: Iterable[Dimension], bindings: Bindings) -> tuple[int, ...]:
    """The concrete shape for ``bindings``."""
    return tuple(evaluate(dimension, bindings) for dimension in shape)


def symbols_of(dimension: Dimension) -> frozenset[str]:
    """The symbols that a dimension's value depends on."""
    if isinstance(dimension, Expression):
        return symbols_of(dimension.left) | symbols_of(dimension.right)
    return frozenset((dimension,)) if isinstance(dimension, str) else frozenset()


def is_static(shape: Iterable[Dimension]) -> bool:
    """Whether every dimension is a number."""
    return all(isinstance(dimension, int) for dimension in shape)


def product(shape: Sequence[Dimension]) -> Dimension:
    """Number of elements as a dimension; constants are folded."""
    number, symbolic = 1, list[Dimension]()
    for dimension in shape:
        if isinstance(dimension, int):
            number *= dimension
        else:
            symbolic.append(dimension)
    if number == 0:
        return 0
    result: Dimension = number
    for dimension in symbolic:
        result = dimension if result == 1 else Expression("*", result, dimension)
    return result


def render(dimension: Dimension) -> str:
    """Text form, for messages and tables."""
    if not isinstance(dimension, Expression):
        return str(dimension)
    left, right = render(dimension.left), render(dimension.right)
    if dimension.operation in ("min", "max"):
        return f"{dimension.operation}({left}, {right})"
    return f"({left} {dimension.operation} {right})"


def render_shape(shape: Iterable[Dimension]) -> str:
    """``N x 3 x 224 x 224``; ``scalar`` for no dimensions."""
    return " x ".join(map(render, shape)) or "scalar"
