"""Calls that move values: transposes, concatenations, slices, upsampling."""

from __future__ import annotations

import math

from tvm import relax
from tvm.tirx import IntImm

from motet.targets.systolic.from_relax.anchor import Anchor
from motet.targets.systolic.from_relax.values import (
    RefusedError,
    order_of,
    require_layout,
    shape_of,
)
from motet.targets.systolic.workload.moves import Concat, Permute, Slice, Upsample


def permutation(call: relax.Call) -> Anchor:
    """``permute_dims``; views of it that move nothing are reshapes by then."""
    return Anchor(Permute(shape_of(call.args[0]), tuple(order_of(call))), (0,))


def concatenation(call: relax.Call) -> Anchor:
    """``concat`` along any axis: the operands are the tuple's tensors."""
    if not isinstance(call.args[0], relax.Tuple):
        raise RefusedError("it concatenates a tuple that is not written out")
    shapes = [shape_of(value) for value in call.args[0].fields]
    axis = int(call.attrs.axis or 0) % len(shapes[0])
    layer = Concat(math.prod(shapes[0][:axis]), tuple(math.prod(s[axis:]) for s in shapes))
    return Anchor(layer, tuple(range(len(shapes))))


def slicing(call: relax.Call) -> Anchor:
    """``strided_slice`` with known places, clamped as Relax does."""
    shape, lengths = shape_of(call.args[0]), shape_of(call)
    axes, begins = (_known(value) for value in call.args[1:3])
    steps = _known(call.args[4]) if len(call.args) > 4 else [1] * len(axes)
    first, strides = [0] * len(shape), [1] * len(shape)
    for axis, begin, step in zip(axes, begins, steps, strict=True):
        size = shape[axis]
        place = begin + size if begin < 0 else begin
        first[axis] = min(max(place, 0), size - (step < 0))
        strides[axis] = step
    return Anchor(Slice(shape, tuple(first), lengths, tuple(strides)), (0,))


_EVERY_VALUE_AGAIN = {
    ("asymmetric", "floor"),
    *(("half_pixel", f"round{preferred}") for preferred in ("", "_prefer_floor", "_prefer_ceil")),
}
"""Places and roundings by which nearest neighbours at whole factors are repetitions."""


def upsampling(call: relax.Call) -> Anchor:
    """``image.resize2d`` to the nearest value, by whole factors."""
    attrs = call.attrs
    require_layout(attrs, "NCHW")
    batch, channels, height, width = shape_of(call.args[0])
    factors = [divmod(m, n) for m, n in zip(shape_of(call)[2:], (height, width), strict=True)]
    how = (str(attrs.coordinate_transformation_mode), str(attrs.rounding_method))
    if attrs.method != "nearest_neighbor" or how not in _EVERY_VALUE_AGAIN:
        raise RefusedError(f"it resizes by {attrs.method}, {', '.join(how)}")
    if any(rest for _, rest in factors):
        raise RefusedError("it resizes by factors that are not whole")
    repeats = (factors[0][0], factors[1][0])
    return Anchor(Upsample(batch * channels, height, width, repeats), (0,))


def _known(values: relax.Expr) -> list[int]:
    if not isinstance(values, relax.Tuple) or not all(
        isinstance(value, IntImm) for value in values.fields
    ):
        raise RefusedError("its places are not known")
    return [int(value) for value in values.fields]
