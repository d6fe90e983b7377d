"""Operators that scale and shift each channel by constants, as such.

Batch-norm with constant parameters, and addition, subtraction, multiplication and
division by a constant that has one value per channel, all compute ``x scale + shift``.
Scales and shifts are float64; whoever makes a constant of them rounds once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import relax
from tvm_ffi import structural_equal

from motet.passes.decompose_batch_norm import is_inference_norm
from motet.passes.graph import constant_array
from motet.passes.op_kinds import op_name
from motet.runtime.device import Array


@dataclass(frozen=True)
class Affine:
    """``x scale + shift``; both are float64, [channels] or [] for all channels alike."""

    scale: Array
    shift: Array

    def then(self, after: Affine) -> Affine:
        """Both as one: ``after`` on the result of this one."""
        return Affine(self.scale * after.scale, self.shift * after.scale + after.shift)

    @property
    def scales(self) -> bool:
        """Whether it does more than shift."""
        return bool((self.scale != 1).any())


IDENTITY = Affine(np.ones(()), np.zeros(()))


def of_batch_norm(norm: relax.Call | None) -> Affine | None:
    """What an inference batch-norm with constant parameters does along its axis."""
    if norm is None or not is_inference_norm(norm):
        return None
    arrays = [constant_array(argument) for argument in norm.args[1:5]]
    if any(array is None for array in arrays):
        return None
    gamma, beta, mean, variance = (np.asarray(array, dtype=np.float64) for array in arrays)
    with np.errstate(invalid="ignore", divide="ignore"):  # readers look at what comes of it
        scale = 1.0 / np.sqrt(variance + float(norm.attrs.epsilon))
    scale = gamma * scale if norm.attrs.scale else scale
    return Affine(scale, (beta if norm.attrs.center else 0.0) - mean * scale)


def of_arithmetic(call: relax.Call, axis: int) -> Affine | None:
    """How ``call`` scales and shifts its one operand that is no constant, along ``axis``.

    None where it does something else, or where broadcasting makes the result larger
    than the operand.
    """
    if op_name(call) not in _STEPS:
        return None
    left, right = call.args
    data, constant = (right, left) if constant_array(left) is not None else (left, right)
    values = _per_channel(constant, axis, int(call.ty.ndim))
    if values is None or not _same_type(data, call):
        return None
    return _STEPS[op_name(call)](values, constant.same_as(left))


def _add(values: Array, _first: bool) -> Affine:
    return Affine(np.ones(()), values)


def _subtract(values: Array, first: bool) -> Affine:
    return Affine(-np.ones(()), values) if first else Affine(np.ones(()), -values)


def _multiply(values: Array, _first: bool) -> Affine:
    return Affine(values, np.zeros(()))


def _divide(values: Array, first: bool) -> Affine | None:
    return None if first or not values.all() else Affine(1.0 / values, np.zeros(()))


_STEPS = {
    "relax.add": _add,
    "relax.subtract": _subtract,
    "relax.multiply": _multiply,
    "relax.divide": _divide,
}


def _per_channel(expr: relax.Expr, axis: int, rank: int) -> Array | None:
    """A constant as [channels] or [], where it varies along ``axis`` alone."""
    values = constant_array(expr)
    if values is None or values.size == 0 or values.ndim > rank:
        return None
    if not np.issubdtype(values.dtype, np.floating):
        return None
    shape = (1,) * (rank - values.ndim) + values.shape
    if any(size != 1 for other, size in enumerate(shape) if other != axis):
        return None
    return values.astype(np.float64).reshape(() if values.size == 1 else -1)


def _same_type(left: relax.Expr, right: relax.Expr) -> bool:
    return left.ty.shape is not None and bool(structural_equal(left.ty, right.ty))
