"""Looking at Relax calls as the array sees them: names, shapes, attributes."""

from __future__ import annotations

import re
from typing import Any

from tvm import relax
from tvm.ir import Op
from tvm.tirx import IntImm

Shape = tuple[int, ...]
Four = tuple[int, int, int, int]


class RefusedError(Exception):
    """Why the array does not take a call."""


def name_of(call: relax.Call) -> str:
    """The operator's name; for a call of anything else, what it calls."""
    return str(call.op.name) if isinstance(call.op, Op) else f"a call of {call.op}"


def shape_of(value: relax.Expr, dtypes: tuple[str, ...] = ("float32",)) -> Shape:
    """The static shape of a tensor of one of ``dtypes``; else raises ``RefusedError``."""
    ty = value.ty
    if not isinstance(ty, relax.TensorType):
        raise RefusedError("an operand is not a tensor")
    if ty.dtype not in dtypes:
        raise RefusedError(f"a tensor is {ty.dtype}, not {' or '.join(dtypes)}")
    if not isinstance(ty.shape, relax.ShapeExpr):
        raise RefusedError("the shape of a tensor is unknown")
    sizes = ty.shape.values[:]
    if not all(isinstance(size, IntImm) for size in sizes):
        text = ", ".join(str(int(s)) if isinstance(s, IntImm) else _symbol(s) for s in sizes)
        raise RefusedError(f"its shape [{text}] is symbolic")
    shape = tuple(int(size) for size in sizes)
    if 0 in shape:
        raise RefusedError(f"a tensor of shape {list(shape)} is empty")
    return shape


def _symbol(size: Any) -> str:
    """A symbolic dimension as people write it: ``N``, ``N * 2``."""
    return re.sub(r"T\.int64\((-?\d+)\)", r"\1", str(getattr(size, "name", size)))


def tensors_of(call: relax.Call) -> list[relax.Expr]:
    """The operands that are tensors; limits and the like are scalars."""
    return [value for value in call.args[:] if isinstance(value.ty, relax.TensorType)]


def operands_of(call: relax.Call) -> list[relax.Expr]:
    """The arguments, those in a tuple (of a concatenation) one by one."""
    first = call.args[0]
    return list(first.fields[:] if isinstance(first, relax.Tuple) else call.args[:])


def order_of(call: relax.Call) -> list[int]:
    """Which axis of its argument each axis of a ``permute_dims`` is."""
    rank, axes = int(call.ty.ndim), call.attrs.axes
    return list(range(rank))[::-1] if axes is None else [int(axis) % rank for axis in axes]


def swaps_last_axes(call: relax.Call) -> bool:
    """Whether a ``permute_dims`` exchanges the last two axes and leaves the others."""
    rank, order = int(call.ty.ndim), order_of(call)
    return rank >= 2 and order == [*range(rank - 2), rank - 1, rank - 2]


def require_layouts(attrs: Any, data: str, kernel: str) -> None:
    """Raise ``RefusedError`` unless data and kernel are laid out so."""
    layouts = (attrs.data_layout, attrs.kernel_layout, attrs.out_layout or data)
    if layouts != (data, kernel, data):
        raise RefusedError(f"its layouts are {', '.join(layouts)}, not {data}, {kernel}, {data}")


def require_layout(attrs: Any, data: str) -> None:
    """Raise ``RefusedError`` unless data is laid out so."""
    if attrs.layout != data or (getattr(attrs, "out_layout", "") or data) != data:
        raise RefusedError(f"its layout is {attrs.layout}, not {data}")


def ints(values: Any) -> list[int]:
    """The numbers of an attribute."""
    return [int(value) for value in values]


def pair(values: Any) -> tuple[int, int]:
    """Two numbers, of one or two."""
    numbers = ints(values)
    return numbers[0], numbers[-1]


def two(paddings: Any) -> Four:
    """(0, left, 0, right) of one or two numbers."""
    numbers = ints(paddings)
    return 0, numbers[0], 0, numbers[-1]


def four(paddings: Any) -> Four:
    """(top, left, bottom, right) of TVM's one, two or four numbers."""
    numbers = ints(paddings)
    if len(numbers) == 4:
        return numbers[0], numbers[1], numbers[2], numbers[3]
    return numbers[0], numbers[-1], numbers[0], numbers[-1]
