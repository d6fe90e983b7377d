"""A tensor's two forms: plain (N, C, H, W), and blocked [N][C / b][H][W][b]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from motet.passes.graph import constant_array

Emit = Callable[[relax.Call], relax.Expr]
"""Binds a call to a new variable."""


def shape_of(expr: relax.Expr) -> list[Any] | None:
    """Extents of a tensor, integers where they are known; None without a known rank."""
    values = getattr(getattr(expr.ty, "shape", None), "values", None)
    return None if values is None else [getattr(v, "value", v) for v in values]


_NUMBERS = frozenset(("float32", "int8", "uint8", "int16", "int32"))
"""Float32, and what quantised values and their sums are held in."""


def feature_map(expr: relax.Expr) -> tuple[Any, int, int, int] | None:
    """(N, C, H, W) of a tensor of numbers of which only N may be unknown; None for any other."""
    if not isinstance(expr.ty, relax.TensorType) or str(expr.ty.dtype) not in _NUMBERS:
        return None
    shape = shape_of(expr)
    if shape is None or len(shape) != 4 or not all(isinstance(d, int) and d for d in shape[1:]):
        return None
    return shape[0], shape[1], shape[2], shape[3]


def unblocked(value: relax.Expr, block: int, emit: Emit) -> relax.Call:
    """The plain form of a blocked ``value``, as the last call of it."""
    batch, blocks, height, width, _ = shape_of(value) or []
    shape = relax.ShapeExpr([batch, blocks * block, height, width])
    if (height, width) == (1, 1):
        return relax.op.reshape(value, shape)
    return relax.op.reshape(emit(relax.op.permute_dims(value, [0, 1, 4, 2, 3])), shape)


def blocked(value: relax.Expr, block: int, emit: Emit) -> relax.Expr:
    """The blocked form of a plain (N, C, H, W) ``value``."""
    batch, channels, height, width = shape_of(value) or []
    if (height, width) == (1, 1):
        shape = relax.ShapeExpr([batch, channels // block, 1, 1, block])
        return emit(relax.op.reshape(value, shape))
    shape = relax.ShapeExpr([batch, channels // block, block, height, width])
    return emit(relax.op.permute_dims(emit(relax.op.reshape(value, shape)), [0, 1, 3, 4, 2]))


def broadcasts(shape: Sequence[Any], channels: int) -> bool:
    """Whether a tensor of this shape goes, by numpy's rules, with blocks of ``channels``."""
    return len(shape) <= 4 and (len(shape) < 3 or shape[-3] in (1, channels))


def blocked_operand(value: relax.Expr, channels: int, block: int, emit: Emit) -> relax.Expr:
    """An operand of an elementwise call, in its plain form, as it goes with blocked ones."""
    shape = shape_of(value) or []
    if not shape or all(d == 1 for d in shape):
        return value
    shape = [1] * (4 - len(shape)) + shape
    array = constant_array(value)
    if array is not None:
        return relax.const(_blocked_array(array.reshape(shape), block), str(array.dtype))
    if shape[1] == 1:
        return emit(relax.op.reshape(value, relax.ShapeExpr([shape[0], 1, *shape[2:], 1])))
    if len(value.ty.shape.values) < 4:
        value = emit(relax.op.reshape(value, relax.ShapeExpr(shape)))
    return blocked(value, block, emit)


def _blocked_array(array: NDArray[Any], block: int) -> NDArray[Any]:
    batch, channels, height, width = array.shape
    if channels == 1:
        return array[..., np.newaxis]
    split = array.reshape(batch, channels // block, block, height, width)
    return np.ascontiguousarray(split.transpose(0, 1, 3, 4, 2))
