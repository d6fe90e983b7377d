"""Relax calls for merged convolutions, and for the border strips beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tvm import relax

from motet.passes.merging.convolution import Conv
from motet.passes.merging.spans import Merged, Span

Emit = Callable[[relax.Call], relax.Expr]
Region = tuple[tuple[int, int], ...]
"""Positions [low, high) along each spatial axis."""

_CONVOLUTIONS = {1: relax.op.nn.conv1d, 2: relax.op.nn.conv2d, 3: relax.op.nn.conv3d}


def emit_conv(emit: Emit, data: relax.Expr, conv: Conv, dtype: str) -> relax.Expr:
    """``conv`` of ``data``: a convolution, and the addition of a bias or bias map behind it."""
    weight = relax.const(conv.weight.astype(dtype), dtype)
    made = emit(
        _CONVOLUTIONS[conv.rank](
            data,
            weight,
            strides=list(conv.stride),
            padding=list(conv.padding),
            dilation=list(conv.dilation),
            groups=conv.groups,
        )
    )
    if not conv.has_bias:
        return made
    bias = conv.bias if conv.has_map else conv.bias.reshape(-1, *(1,) * conv.rank)
    return emit(relax.op.add(made, relax.const(bias[None].astype(dtype), dtype)))


@dataclass(frozen=True)
class Windows:
    """Computes parts of a chain's result: ``convs`` in a row, of an operand of sizes ``spatial``.

    A part needs a part of the operand of each convolution; what of it lies outside becomes
    that convolution's padding, so that every part is exactly what the whole would have there.
    """

    emit: Emit
    dtype: str

    def part(
        self, data: relax.Expr, convs: Sequence[Conv], spatial: Sequence[int], region: Region
    ) -> relax.Expr:
        """The results in ``region``."""
        sizes = [tuple(spatial)]
        for one in convs[:-1]:
            sizes.append(one.sizes(sizes[-1]))
        narrowed: list[Conv] = []
        for one, size in zip(reversed(convs), reversed(sizes), strict=True):
            conv, region = _narrowed(one, size, region)
            narrowed.append(conv)
        value = self._slice(data, region, spatial)
        for one in reversed(narrowed):
            value = emit_conv(self.emit, value, one, self.dtype)
        return value

    def _slice(self, data: relax.Expr, region: Region, spatial: Sequence[int]) -> relax.Expr:
        cut = [axis for axis, ends in enumerate(region) if ends != (0, spatial[axis])]
        if not cut:
            return data
        axes = [axis + 2 for axis in cut]
        begin, end = ([region[axis][side] for axis in cut] for side in (0, 1))
        return self.emit(relax.op.strided_slice(data, axes, begin, end))

    def stripped(
        self,
        data: relax.Expr,
        merged: Conv,
        layers: Sequence[Conv],
        spatial: Sequence[int],
        strip: Sequence[int],
    ) -> relax.Expr:
        """``merged`` where it is right, ``layers`` in the strips around, put together."""
        counts = merged.sizes(spatial)
        whole = tuple((0, count) for count in counts)

        def region(axis: int, outer: Region) -> relax.Expr:
            if axis == merged.rank:
                return self.part(data, [merged], spatial, outer)
            low, high = strip[axis], counts[axis] - strip[merged.rank + axis]
            cuts = ((0, low), (low, high), (high, counts[axis]))
            parts = []
            for number, cut in enumerate(cuts):
                if cut[0] == cut[1]:
                    continue
                here = (*outer[:axis], cut, *outer[axis + 1 :])
                inside = number == 1
                parts.append(
                    region(axis + 1, here) if inside else self.part(data, layers, spatial, here)
                )
            if len(parts) == 1:
                return parts[0]
            return self.emit(relax.op.concat(parts, axis=axis + 2))

        return region(0, whole)


def _narrowed(conv: Conv, spatial: Sequence[int], region: Region) -> tuple[Conv, Region]:
    """``conv`` that computes ``region`` alone, and the region of its operand that it reads."""
    begin, end, read = [], [], []
    for axis, (low, high) in enumerate(region):
        first = low * conv.stride[axis] - conv.begin[axis]
        last = (high - 1) * conv.stride[axis] - conv.begin[axis] + conv.extent[axis]
        kept = max(first, 0), min(last, spatial[axis])
        begin.append(kept[0] - first)
        end.append(last - kept[1])
        read.append(kept)
    bias = conv.bias
    if conv.has_map:
        index: Any = (slice(None), *(slice(low, high) for low, high in region))
        bias = bias[index]
    bias = np.ascontiguousarray(bias)
    return replace(conv, padding=(*begin, *end), bias=bias), tuple(read)


def emit_merged(emit: Emit, data: relax.Expr, span: Span, merged: Merged) -> relax.Expr:
    """The calls that take a span's place, on ``data``, its source."""
    dtype = str(span.result.ty.dtype)
    if not merged.has_strip:
        return emit_conv(emit, data, merged.conv, dtype)
    spatial = [int(size or 0) for size in span.spatial]
    return Windows(emit, dtype).stripped(data, merged.conv, merged.layers, spatial, merged.strip)


def emit_activation(emit: Emit, data: relax.Expr, activation: str) -> relax.Expr:
    """``relu`` or ``relu6`` of ``data``; "" for nothing."""
    if activation == "relu6":
        return emit(relax.op.clip(data, 0.0, 6.0))
    return emit(relax.op.nn.relu(data)) if activation == "relu" else data
