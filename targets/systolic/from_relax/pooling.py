"""Pooling over windows and over whole images as layers of the array."""

from __future__ import annotations

import math
from typing import Literal

from tvm import relax

from motet.targets.systolic.from_relax.anchor import Anchor
from motet.targets.systolic.from_relax.values import (
    RefusedError,
    Shape,
    four,
    ints,
    name_of,
    pair,
    require_layout,
    shape_of,
    two,
)
from motet.targets.systolic.workload.layers import Pooling


def pooling(call: relax.Call, kind: Literal["max", "average"]) -> Anchor:
    """Pooling over one axis (height 1) or two."""
    attrs = call.attrs
    shape = shape_of(call.args[0])
    require_layout(attrs, "NCHW" if len(shape) == 4 else "NCW")
    is_line = len(shape) == 3
    batch, channels, *spatial = shape
    layer = Pooling(
        kind,
        batch,
        channels,
        1 if is_line else spatial[0],
        spatial[-1],
        kernel=(1, ints(attrs.pool_size)[0]) if is_line else pair(attrs.pool_size),
        stride=(1, ints(attrs.strides)[0]) if is_line else pair(attrs.strides),
        padding=two(attrs.padding) if is_line else four(attrs.padding),
        dilation=(1, ints(attrs.dilation)[0]) if is_line else pair(attrs.dilation),
        count_padding=kind == "average" and bool(attrs.count_include_pad),
    )
    (top, left, bottom, right), (height, width) = layer.padding, layer.kernel
    if max(top, bottom) >= height or max(left, right) >= width:
        raise RefusedError("a window of it may lie in the padding alone")
    return Anchor(layer, (0,))


def global_pooling(call: relax.Call, kind: Literal["max", "average"]) -> Anchor:
    """Adaptive pooling to 1 x 1, or a reduction over all spatial axes or over outer ones."""
    shape = shape_of(call.args[0])
    axes = getattr(call.attrs, "axis", None)
    if axes is not None and (made := _over_outer_axes(shape, ints(axes), kind)):
        return Anchor(made, (0,))
    if hasattr(call.attrs, "output_size"):
        require_layout(call.attrs, "NCHW" if len(shape) == 4 else "NCW")
        if math.prod(shape_of(call)[2:]) != 1:
            raise RefusedError(f"it pools to {list(shape_of(call)[2:])}, not to one value")
    elif axes is None or sorted(a % len(shape) for a in ints(axes)) != [*range(2, len(shape))]:
        raise RefusedError(f"{name_of(call)} over other axes than an image's")
    if len(shape) not in (3, 4):
        raise RefusedError(f"{name_of(call)} over {len(shape) - 2} spatial axes")
    batch, channels, *spatial = shape
    height, width = (1, *spatial)[-2:]
    return Anchor(Pooling(kind, batch, channels, height, width, (height, width)), (0,))


def _over_outer_axes(
    shape: Shape, axes: list[int], kind: Literal["max", "average"]
) -> Pooling | None:
    """A reduction over neighbouring axes that others follow: columns of images of one channel."""
    reduced = sorted(axis % len(shape) for axis in axes)
    if not reduced or reduced != list(range(reduced[0], reduced[-1] + 1)):
        return None
    outer, inner = math.prod(shape[: reduced[0]]), math.prod(shape[reduced[-1] + 1 :])
    height = math.prod(shape[axis] for axis in reduced)
    return Pooling(kind, 1, outer, height, inner, (height, 1)) if inner > 1 else None
