"""Relax operators on numpy arrays, as ONNX defines them; what constant folding runs.

Where numpy means something else than ONNX and the kernels, numpy gives way: integer
division truncates, integer powers with negative exponents truncate, and a result
always has the dtype of the call. NaN passes through ``maximum`` and ``minimum``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import relax

from motet.passes.graph import static_shape
from motet.passes.op_kinds import op_name
from motet.runtime.device import Array

Evaluate = Callable[..., Array]


def _divide(left: Array, right: Array) -> Array:
    if np.issubdtype(left.dtype, np.floating):
        return np.asarray(np.divide(left, right))
    quotient = np.floor_divide(left, right)
    inexact = (quotient * right != left) & ((left < 0) != (right < 0))
    return np.asarray(quotient + inexact.astype(left.dtype))


def _power(base: Array, exponent: Array) -> Array:
    if np.issubdtype(base.dtype, np.floating):
        return np.asarray(np.power(base, exponent))
    positive = np.power(base, np.maximum(exponent, 0))
    with np.errstate(all="ignore"):
        reciprocal = np.trunc(np.power(base.astype(np.float64), exponent))
    return np.where(exponent >= 0, positive, np.nan_to_num(reciprocal).astype(base.dtype))


def _dequantize(call: relax.Call, tensors: Sequence[Array]) -> Array | None:
    """``(x - zero point) * scale`` in int32 and float32, as the kernels compute it."""
    x, *parameters = tensors
    if x.dtype.kind not in "iu":
        return None
    shape = [1] * x.ndim
    shape[int(call.attrs.axis)] = -1
    scale, zero = (p.reshape(shape) if p.size > 1 else p.reshape(()) for p in parameters)
    real = (x.astype(np.int32) - zero.astype(np.int32)).astype(np.float32)
    return (real * scale.astype(np.float32)).astype(str(call.ty.dtype))


def _head(call: relax.Call, x: Array, shape: tuple[int, ...]) -> Array | None:
    """A slice that begins at 0 along every axis and leaves nothing out; None for others."""
    begin, strides = call.args[2], call.args[4] if len(call.args) > 4 else ()
    if any(int(at) != 0 for at in begin) or any(int(step) != 1 for step in strides):
        return None
    return x[tuple(slice(0, extent) for extent in shape)]


_UNARY: dict[str, Evaluate] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "exp": np.exp,
    "floor": np.floor,
    "log": np.log,
    "logical_not": np.logical_not,
    "negative": np.negative,
    "sqrt": np.sqrt,
    "square": np.square,
    "tanh": np.tanh,
}
_BINARY: dict[str, Evaluate] = {
    "add": np.add,
    "divide": _divide,
    "equal": np.equal,
    "greater": np.greater,
    "less": np.less,
    "logical_and": np.logical_and,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "power": _power,
    "subtract": np.subtract,
}
_BY_SHAPE = ("expand_dims", "flatten", "reshape", "squeeze")
_DIVISIONS = ("divide", "floor_divide", "floor_mod", "mod")


def divides_by_zero(call: relax.Call, tensors: Sequence[Array]) -> bool:
    """Whether an integer division by zero would stop the program that evaluates ``call``."""
    if op_name(call).removeprefix("relax.") not in _DIVISIONS:
        return False
    divisor = tensors[-1]
    return not np.issubdtype(divisor.dtype, np.floating) and not divisor.all()


def evaluate(call: relax.Call, tensors: Sequence[Array]) -> Array | None:
    """The value of ``call`` on its tensor operands; None where there is no entry for it.

    The result has the dtype of the call, and its shape up to leading or dropped ones.
    """
    shape, dtype = static_shape(call), str(getattr(call.ty, "dtype", ""))
    if shape is None or not _is_numpy(dtype):
        return None
    with np.errstate(all="ignore"):
        result = _apply(op_name(call).removeprefix("relax."), call, tensors, shape)
    if result is None or result.dtype != np.dtype(dtype):
        return None
    return result


def _is_numpy(dtype: str) -> bool:
    try:
        np.dtype(dtype)
    except TypeError:
        return False
    return True


def _apply(
    name: str, call: relax.Call, tensors: Sequence[Array], shape: tuple[int, ...]
) -> Array | None:
    first = tensors[0]
    if name in _BY_SHAPE:
        return first.reshape(shape)
    if name == "broadcast_to":
        return np.broadcast_to(first, shape)
    if name == "full":
        return np.full(shape, first)
    if name == "astype":
        return first.astype(str(call.ty.dtype))
    if name == "permute_dims":
        axes = call.attrs.axes
        return np.transpose(first, None if axes is None else [int(axis) for axis in axes])
    if name == "dequantize":
        return _dequantize(call, tensors)
    if name == "strided_slice":
        return _head(call, first, shape)
    if name in _UNARY:
        return np.asarray(_UNARY[name](first))
    if name in _BINARY and len(tensors) == 2:
        return np.asarray(_BINARY[name](first, tensors[1]))
    return None
