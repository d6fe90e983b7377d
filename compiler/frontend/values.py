"""What a name in an ONNX graph stands for while the graph is imported.

A value is a numpy array where it is known at compile time, an array of symbolic
integers where it was computed from shapes, or a Relax expression. Keeping the first
two apart from Relax is what lets shape arithmetic vanish instead of running. Sequences
and optionals exist at import only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from tvm import relax, tirx

from motet.runtime.element_types import carried

Dim = Any  # int or tirx.Expr
Dims = tuple[Dim, ...]


def constant(array: NDArray[Any] | np.generic) -> relax.Expr:
    """A Relax constant of ``array``, of exactly its dtype (Relax narrows int64 by default).

    Narrow types (``runtime.element_types``) are in their carriers.
    """
    data = carried(np.asarray(array))
    return relax.const(np.ascontiguousarray(data).reshape(data.shape), data.dtype.name)


@dataclass
class Constant:
    """A compile-time array; its Relax constant is made once, when first used.

    Arrays of narrow element types have the dtypes of ml_dtypes.
    """

    array: NDArray[Any]
    expr: relax.Expr | None = field(default=None, repr=False)

    def tensor(self) -> relax.Expr:
        """The Relax constant of this array."""
        if self.expr is None:
            self.expr = constant(self.array)
        return self.expr


@dataclass(frozen=True)
class Symbolic:
    """Integers computed from shapes: an object array (rank 0 to 2) of int or tirx.Expr."""

    dims: NDArray[Any]
    dtype: str


@dataclass(frozen=True)
class Tensor:
    """A tensor at run time, as a Relax expression.

    element: its element type where that is a narrow one, held in its carrier.
    """

    expr: relax.Expr
    element: str | None = None


@dataclass(frozen=True)
class TensorSequence:
    """An ONNX sequence: a list at import, of which the run sees the items only.

    dtype: element type of the items, also where there are none.
    """

    items: tuple[Value, ...]
    dtype: str


@dataclass(frozen=True)
class EmptyOptional:
    """An ONNX optional without a value; one with a value is that value.

    type: of what it does not hold.
    """

    type: onnx.TypeProto


Value = Constant | Symbolic | Tensor | TensorSequence | EmptyOptional


def as_dim(dim: object) -> Dim:
    """A plain ``int`` for a constant dimension, else the symbolic expression."""
    if isinstance(dim, (int, np.integer)):
        return int(dim)
    return int(dim.value) if isinstance(dim, tirx.IntImm) else dim


def plain_text(text: str) -> str:
    """``text`` with integers as everybody writes them: TVM prints 2 as ``T.int64(2)``."""
    return re.sub(r"T\.int64\((-?\d+)\)", r"\1", text)


def as_expr(dim: Dim) -> tirx.Expr:
    """A dimension as an int64 expression."""
    return tirx.const(dim, "int64") if isinstance(dim, int) else dim


def counted(length: Dim) -> relax.Expr:
    """0, 1, ... below ``length``, int64; a constant where the length is known."""
    if isinstance(length, int):
        return constant(np.arange(length, dtype=np.int64))
    return relax.op.arange(0, length, 1, "int64")


def object_array(items: list[Any], scalar: bool = False) -> NDArray[Any]:
    """An object array of rank 1, or of rank 0 with ``scalar``, without broadcasting."""
    array = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        array[index] = item
    return array.reshape(()) if scalar else array


def shape_value(items: list[Any], dtype: str = "int64", scalar: bool = False) -> Value:
    """A ``Constant`` where every item is known, else ``Symbolic``."""
    dims = [as_dim(item) for item in items]
    if all(isinstance(dim, int) for dim in dims):
        array = np.array(dims, dtype=dtype)
        return Constant(array.reshape(()) if scalar else array)
    return Symbolic(object_array(dims, scalar), dtype)
