"""What the calls of a Relax graph are to merging: convolutions, and linear calls, as numbers.

1. A convolution (1-D to 3-D, channels second) with constant float weights.
2. Batch-norm with constant parameters; a constant added, subtracted, multiplied or divided by
   that has one value per channel; negation: a scale and shift.
3. A constant of one value per channel and position, added or subtracted: a shift.
4. Zero padding of the spatial axes; with another value v it is a shift by -v, zero padding,
   and a shift by v.
5. What does nothing: a cast to the type it has, bounds that no finite value passes.

2 and 4 also where the channels lie on another axis, between two transposes.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np
from tvm import relax

from motet.passes.affine import of_arithmetic, of_batch_norm
from motet.passes.graph import constant_array
from motet.passes.merging.axes import Layout
from motet.passes.merging.convolution import Conv, affine, conv, pad
from motet.passes.op_kinds import op_name
from motet.runtime.device import Array

_LAYOUTS = {
    "relax.nn.conv1d": ("NCW", "OIW"),
    "relax.nn.conv2d": ("NCHW", "OIHW"),
    "relax.nn.conv3d": ("NCDHW", "OIDHW"),
}
FLOATS = ("float32", "float64")


def is_convolution(expr: relax.Expr) -> bool:
    """Whether rule 1 reads ``expr``."""
    layouts = _LAYOUTS.get(op_name(expr))
    if layouts is None:
        return False
    attrs, weight = expr.attrs, expr.args[1]
    return (
        constant_array(weight) is not None
        and str(expr.ty.dtype) in FLOATS
        and str(weight.ty.dtype) == str(expr.ty.dtype) == str(expr.args[0].ty.dtype)
        and (str(attrs.data_layout), str(attrs.kernel_layout)) == layouts
        and str(attrs.out_layout) in ("", layouts[0])
    )


def convolution(call: relax.Call) -> Conv:
    """Rule 1."""
    attrs, weight = call.attrs, constant_array(call.args[1])
    assert weight is not None
    stride, padding, dilation = (
        [int(v) for v in values] for values in (attrs.strides, attrs.padding, attrs.dilation)
    )
    return conv(weight, None, stride, padding, dilation, int(attrs.groups))


def linear(value: relax.Expr, layout: Layout) -> tuple[Conv, ...] | None:
    """Rules 2 to 5: ``value``, whose operand has ``layout``, as convolutions in a row.

    An empty tuple for what does nothing; None for anything else.
    """
    if not isinstance(value, relax.Call):
        return None
    if _does_nothing(value):
        return ()
    if op_name(value) == "relax.nn.pad":
        return _padding(value, layout)
    rank = len(layout.sizes) - 2
    channels, axis = _channels(layout), layout.channel_axis
    if channels is None or axis is None:
        return None
    if op_name(value) == "relax.negative":
        return (affine(-np.ones(()), np.zeros(()), channels, rank),)
    if op_name(value) == "relax.nn.batch_norm":
        found = of_batch_norm(value) if int(value.attrs.axis) == axis else None
    else:
        found = of_arithmetic(value, axis)
    if found is None:
        return _shift_map(value, layout)
    return (affine(found.scale, found.shift, channels, rank),)


def _channels(layout: Layout) -> int | None:
    size = getattr(layout.sizes[1], "value", None)
    return None if size is None else int(size)


def _does_nothing(call: relax.Call) -> bool:
    name = op_name(call)
    if name == "relax.astype":
        return str(call.args[0].ty.dtype) == str(call.ty.dtype)
    if name not in _BOUNDS or str(call.ty.dtype) not in FLOATS:
        return False
    largest = float(np.finfo(str(call.ty.dtype)).max)
    bounds = [_bound(argument) for argument in call.args]
    low, high = _BOUNDS[name](bounds)
    return bool(low <= -largest and high >= largest)


def _bound(expr: relax.Expr) -> float:
    """A constant's one value, or a number; NaN for anything else."""
    values = constant_array(expr)
    if values is not None:
        return float(values.reshape(-1)[0]) if values.size == 1 and values.ndim == 0 else np.nan
    return float(getattr(expr, "value", np.nan))


def _largest(bounds: list[float]) -> float:
    return max((bound for bound in bounds if not np.isnan(bound)), default=np.nan)


_BOUNDS: dict[str, Callable[[list[float]], tuple[float, float]]] = {
    "relax.clip": lambda bounds: (bounds[1], bounds[2]),
    "relax.maximum": lambda bounds: (_largest(bounds), inf),
    "relax.minimum": lambda bounds: (-inf, _largest(bounds)),
}
"""Below and above which values are changed."""


def _padding(call: relax.Call, layout: Layout) -> tuple[Conv, ...] | None:
    """Rule 4."""
    channels = _channels(layout)
    whole = all(len(group) == 1 for group in layout.groups)
    if channels is None or not whole or str(call.attrs.pad_mode) != "constant":
        return None
    widths = [int(width) for width in call.attrs.pad_width]
    rank = len(layout.sizes)
    before, after = [0] * rank, [0] * rank
    for place, (axis,) in enumerate(layout.groups):
        before[axis], after[axis] = widths[2 * place : 2 * place + 2]
    if any((*before[:2], *after[:2])) or min(widths) < 0:
        return None
    zeros = pad((*before[2:], *after[2:]), channels)
    value = float(call.attrs.pad_value)
    if value == 0.0:
        return (zeros,)
    one = np.ones(())
    if not np.isfinite(value):
        return None
    return (
        affine(one, np.array(-value), channels, rank - 2),
        zeros,
        affine(one, np.array(value), channels, rank - 2),
    )


def _shift_map(call: relax.Call, layout: Layout) -> tuple[Conv, ...] | None:
    """Rule 3: [C, *sizes] of a constant that has more than one position."""
    if op_name(call) not in ("relax.add", "relax.subtract") or not layout.is_own:
        return None
    left, right = (constant_array(arg) for arg in call.args)
    values = right if left is None else left
    sizes = [getattr(size, "value", None) for size in layout.sizes[1:]]
    if values is None or None in sizes or values.ndim > len(sizes) + 1:
        return None
    values = values.reshape((1,) * (len(sizes) + 1 - values.ndim) + values.shape)
    if values.shape[0] != 1 or values.dtype.kind != "f":
        return None
    return _shifted(values[0], [int(size) for size in sizes if size is not None], call, left)


def _shifted(
    values: Array, shape: list[int], call: relax.Call, left: Array | None
) -> tuple[Conv, ...] | None:
    try:
        shift = np.broadcast_to(values, shape).astype(np.float64)
    except ValueError:
        return None
    scale = np.ones(())
    if op_name(call) == "relax.subtract":
        scale, shift = (scale, -shift) if left is None else (-scale, shift)
    return (affine(scale, shift, shape[0], len(shape) - 1),)
