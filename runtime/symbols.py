"""Values of a program's symbols, from the shapes that its inputs have in a call."""

from __future__ import annotations

from motet.runtime.errors import InputError
from motet.runtime.program import Program, TensorInfo
from motet.runtime.shapes import Bindings, evaluate_shape, render_shape, symbols_of

ShapeKey = tuple[tuple[int, ...], ...]
"""The shapes of all inputs, in order."""


def bind_symbols(program: Program, shapes: ShapeKey) -> dict[str, int]:
    """Values of the program's symbols from its input shapes.

    Raises ``InputError`` where a shape does not fit, with both shapes.
    """
    bindings: dict[str, int] = {}
    for info, shape in zip(program.inputs, shapes, strict=True):
        if len(shape) != len(info.shape):
            raise _misfit(info, shape, {})
        for want, have in zip(info.shape, shape, strict=True):
            if isinstance(want, str):
                bindings.setdefault(want, have)
    # Only now, because an earlier input may be an expression of a later one's symbol.
    for info, shape in zip(program.inputs, shapes, strict=True):
        if evaluate_shape(info.shape, bindings) != shape:
            raise _misfit(info, shape, bindings)
    return bindings


def _misfit(info: TensorInfo, shape: tuple[int, ...], bindings: Bindings) -> InputError:
    used = sorted(frozenset[str]().union(*map(symbols_of, info.shape)) & bindings.keys())
    also = "".join(f", {name} = {bindings[name]}" for name in used)
    return InputError(
        f"input {info.name!r} has shape {render_shape(shape)}; "
        f"the model takes {render_shape(info.shape)}{also}"
    )
