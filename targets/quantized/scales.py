"""Scales of vectors, and integers from them: the quantiser.

All arithmetic is float32, one rounding an operation, in this order, which is also that of
ONNX's ``QuantizeLinear``; ``round`` is to the nearest, halves to even::

    s     = max |x| / largest            of the vector, channel or tensor
    gamma = max s / (2^M - 1)            of the channel or tensor, or given by calibration
    sq    = clip(round(s / gamma), 0, 2^M - 1)
    step  = sq gamma                     (one level: s)
    q     = clip(round(x / step))        0 where the step is 0

Source: Dai et al., "VS-Quant" (MLSys 2021, arXiv 2102.04503), section 4, which takes q from s,
not from the step, and lets the scale of a vector become 0 beside a channel's outlier
(``paper=True``). By default q comes from the step that it is multiplied by in the end, and the
scale of a vector that is not 0 is at least 1: on normal data of 8 bits with scales of 6 that
is 5 dB better, and no vector vanishes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import CompileError
from motet.targets.quantized.types import Axes, Integers, QuantTensor, QuantType, Reals

_TINY = np.float32(np.finfo(np.float32).tiny)


def quantized(
    values: NDArray[np.floating],
    kind: QuantType,
    axes: Axes,
    *,
    gamma: Reals | None = None,
    limit: Reals | None = None,
    zero: Integers | None = None,
    paper: bool = False,
    name: str = "tensor",
) -> QuantTensor:
    """Integers and scales of ``values``.

    Parameters
    ----------
    values: any shape; cast to float32.
    axes: ``axes.reduction`` is where vectors lie; ``axes.channel`` has a gamma each.
    gamma: float32 to use in place of the values' own (static, from calibration). Of one
        level: the scale itself.
    limit: magnitudes above it are clipped, as calibration found: one, or broadcastable
        against the scales (one per channel).
    zero: the integer of 0, one or shaped as ``gamma``, which is given with it: q = round(x /
        step) + zero. Not for vectors.
    paper: q from s, and scales that round to 0 stay 0.
    name: for messages.

    Raises
    ------
    CompileError: where ``values`` hold NaN or infinity. What is negative is 0 in unsigned types
        without ``zero``.
    """
    reals = checked(values, name)
    if not kind.signed and zero is None:
        reals = np.maximum(reals, np.float32(0))
    if kind.granularity == "vector" and kind.scale_bits is not None:
        return _two_levels(reals, kind, axes, gamma, limit, paper)
    steps = gamma if gamma is not None else _positive(_magnitudes(reals, kind, axes, limit))
    steps = np.asarray(steps, np.float32)
    values_q = _integers(reals, _spread(steps, kind, axes, reals.shape), kind, zero)
    return QuantTensor(kind, axes, values_q, steps, zero=zero)


def checked(values: NDArray[np.floating], name: str) -> Reals:
    """``values`` as float32. Raises ``CompileError`` for what has no integer."""
    reals = np.asarray(values, np.float32)
    if not np.isfinite(reals).all():
        found = "NaN" if np.isnan(reals).any() else "infinity"
        raise CompileError(f"{name} holds {found} and cannot be quantised; leave it out (exclude)")
    return reals


def _two_levels(
    reals: Reals, kind: QuantType, axes: Axes, gamma: Reals | None, limit: Reals | None, paper: bool
) -> QuantTensor:
    s = _magnitudes(reals, kind, axes, limit)
    gamma = np.asarray(_gamma(s, kind, axes) if gamma is None else gamma, np.float32)
    scales = np.clip(np.rint(s / gamma), 0, kind.largest_scale).astype(np.uint16)
    if not paper:
        scales = np.where(s > 0, np.maximum(scales, 1), scales)
    steps = s if paper else np.multiply(scales.astype(np.float32), gamma, dtype=np.float32)
    integers = _integers(reals, _spread(steps, kind, axes, reals.shape), kind)
    return QuantTensor(kind, axes, integers, gamma, scales)


def _gamma(s: Reals, kind: QuantType, axes: Axes) -> Reals:
    """The largest s over 2^M - 1, never below the least normal number."""
    rest = tuple(axis for axis in range(s.ndim) if axis != axes.channel)
    top = np.max(s, axis=rest, keepdims=True) if s.size else np.zeros((1,) * s.ndim, np.float32)
    return _positive(np.divide(top, np.float32(kind.largest_scale), dtype=np.float32))


def _positive(steps: Reals) -> Reals:
    """Steps that can be divided by: 1 where all is 0, else at least the least normal number."""
    return np.where(steps > 0, np.maximum(steps, _TINY), np.float32(1)).astype(np.float32)


def _magnitudes(reals: Reals, kind: QuantType, axes: Axes, limit: Reals | None) -> Reals:
    """s: max |x| / largest, of what shares a scale; ranks stay."""
    size = np.abs(reals)
    if kind.granularity == "vector":
        top = _blockwise_max(size, axes.reduction, kind.vector)
    else:
        channel = axes.channel if kind.granularity == "channel" else None
        rest = tuple(axis for axis in range(size.ndim) if axis != channel)
        top = np.max(size, axis=rest, keepdims=True, initial=0)
    if limit is not None:
        top = np.minimum(top, np.asarray(limit, np.float32))
    return np.divide(top, np.float32(kind.largest), dtype=np.float32)


def _blockwise_max(size: Reals, axis: int, vector: int) -> Reals:
    starts = np.arange(0, size.shape[axis], vector)
    if not starts.size:
        return size
    return np.maximum.reduceat(size, starts, axis=axis)


def _spread(steps: Reals, kind: QuantType, axes: Axes, shape: tuple[int, ...]) -> Reals:
    """A step for every element along the reduction."""
    if kind.granularity != "vector":
        return steps
    repeated = np.repeat(steps, kind.vector, axis=axes.reduction)
    return np.take(repeated, np.arange(shape[axes.reduction]), axis=axes.reduction)


def _integers(
    reals: Reals, steps: Reals, kind: QuantType, zero: Integers | None = None
) -> Integers:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.divide(reals, steps, dtype=np.float32)
    ratio = np.where(steps > 0, ratio, np.float32(0))
    whole = np.rint(ratio) if zero is None else np.rint(ratio) + zero.astype(np.float32)
    return np.clip(whole, kind.least, kind.largest).astype(kind.element)
