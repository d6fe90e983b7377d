"""Transposed convolutions as products: one ordinary convolution per phase of the output.

Along one axis, output y gathers input i through tap k where y + padding = i stride + k
dilation. Outputs y = first + stride q of one *phase* share their taps: with g =
gcd(stride, dilation) these are every (stride / g)-th from some k0 on, and consecutive taps
read inputs dilation / g apart, backwards. Each phase is thus a convolution of stride 1
whose kernel is read backwards through the weight's view, and which writes every stride-th
output; nothing is multiplied by the zeros that the textbook form puts between inputs.
A phase without taps (stride > kernel) is one product with a row of zeros: its outputs
are what the epilogue makes of 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from motet.targets.systolic.instructions.addressing import Loop, View, merged
from motet.targets.systolic.workload.layers import (
    Convolution,
    ProductShape,
    TransposedConvolution,
)


class Phase(NamedTuple):
    """One phase along one axis.

    first, outputs: outputs first, first + stride, ... taps: how many; last: the last tap, which
    meets input ``start`` (perhaps negative) at the first output; step: from tap to tap;
    dilation: from input to input between taps.
    """

    first: int
    outputs: int
    taps: int
    last: int
    step: int
    start: int
    dilation: int


class PhaseViews(NamedTuple):
    """The product of one pair of phases, as ``products.ProductViews`` has it."""

    shape: ProductShape
    input: View
    weight: View
    output: View
    run: int


def phases(size: int, kernel: int, stride: int, dilation: int, padding: int) -> list[Phase]:
    """The phases along an axis of ``size`` outputs."""
    common, made = math.gcd(stride, dilation), []
    for first in range(min(stride, size)):
        outputs = (size - 1 - first) // stride + 1
        taps = [k for k in range(kernel) if (first + padding - k * dilation) % stride == 0]
        last = taps[-1] if taps else 0
        start = (first + padding - last * dilation) // stride
        step, apart = stride // common, dilation // common
        made.append(Phase(first, outputs, len(taps), last, step, start, apart))
    return made


def transposed_products(
    layer: TransposedConvolution, inputs: Sequence[int], output: int
) -> list[PhaseViews]:
    """The products of all phases over tensors ``inputs`` (input, weight) and ``output``."""
    down, across = (
        phases(layer.out_size[axis], layer.kernel[axis], layer.stride[axis], layer.dilation[axis],
               layer.padding[axis])
        for axis in range(2)
    )  # fmt: skip
    return [_phase(layer, inputs, output, y, x) for y, x in product(down, across)]


def largest_phase(layer: TransposedConvolution) -> Convolution:
    """A convolution whose product is that of the phase with most multiply-accumulates."""
    height, width = (
        max(phases(layer.out_size[axis], layer.kernel[axis], layer.stride[axis],
                   layer.dilation[axis], layer.padding[axis]),
            key=lambda phase: (phase.taps * phase.outputs, phase.outputs))
        for axis in range(2)
    )  # fmt: skip
    kernel = (max(1, height.taps), max(1, width.taps))
    return Convolution(
        layer.batch,
        layer.in_channels,
        layer.out_channels,
        layer.groups,
        height.outputs + kernel[0] - 1,
        width.outputs + kernel[1] - 1,
        kernel,
    )


def _phase(
    layer: TransposedConvolution, inputs: Sequence[int], output: int, y: Phase, x: Phase
) -> PhaseViews:
    depth = layer.in_channels // layer.groups * y.taps * x.taps
    rows = layer.batch * y.outputs * x.outputs
    columns = layer.out_channels // layer.groups
    shape = ProductShape(layer.groups, rows, columns, max(1, depth))
    source = _input(layer, inputs[0], y, x) if depth else _zeros(layer, inputs[0], rows)
    weight = _weight(layer, inputs[1], y, x, max(1, depth))
    return PhaseViews(shape, source, weight, _output(layer, output, y, x), x.outputs)


def _input(layer: TransposedConvolution, tensor: int, y: Phase, x: Phase) -> View:
    """Row (b, q_y, q_x), column (c, tap y, tap x), over the padded input."""
    top, bottom = _reach(y, layer.in_height)
    left, right = _reach(x, layer.in_width)
    width = layer.in_width + left + right
    plane = (layer.in_height + top + bottom) * width
    channels = layer.in_channels // layer.groups
    rows = (
        Loop(layer.batch, layer.in_channels * plane),
        Loop(y.outputs, width),
        Loop(x.outputs, 1),
    )
    columns = (Loop(channels, plane), Loop(y.taps, y.dilation * width), Loop(x.taps, x.dilation))
    return View(
        tensor,
        layer.input_shape,
        Loop(layer.groups, channels * plane),
        merged(rows),
        merged(columns),
        (top, left, bottom, right),
        (y.start + top) * width + x.start + left,
    )


def _reach(phase: Phase, size: int) -> tuple[int, int]:
    """Zeros that a phase needs before and after ``size`` inputs."""
    last = phase.start + phase.outputs - 1 + (phase.taps - 1) * phase.dilation
    return max(0, -phase.start), max(0, last - size + 1)


def _zeros(layer: TransposedConvolution, tensor: int, rows: int) -> View:
    """One column of zeros: the corner of the padding."""
    loop, padding = (Loop(rows, 0),), (1, 0, 0, 0)
    return View(tensor, layer.input_shape, Loop(layer.groups, 0), loop, (Loop(1, 0),), padding)


def _weight(layer: TransposedConvolution, tensor: int, y: Phase, x: Phase, depth: int) -> View:
    """Row (c, tap y, tap x), column n; the taps backwards."""
    height, width = layer.kernel
    columns = layer.out_channels // layer.groups
    inner = columns * height * width
    channels = layer.in_channels // layer.groups
    loops = (Loop(channels, inner), Loop(y.taps, -y.step * width), Loop(x.taps, -x.step))
    rows = merged(loops) if y.taps and x.taps else (Loop(depth, 0),)
    return View(
        tensor,
        layer.weight_shape,
        Loop(layer.groups, channels * inner),
        rows,
        merged((Loop(columns, height * width),)),
        offset=y.last * width + x.last,
    )


def _output(layer: TransposedConvolution, tensor: int, y: Phase, x: Phase) -> View:
    """Row (b, q_y, q_x), column n; every stride-th output."""
    height, width = layer.out_size
    plane, columns = height * width, layer.out_channels // layer.groups
    rows = (
        Loop(layer.batch, layer.out_channels * plane),
        Loop(y.outputs, layer.stride[0] * width),
        Loop(x.outputs, layer.stride[1]),
    )
    return View(
        tensor,
        layer.output_shape,
        Loop(layer.groups, columns * plane),
        merged(rows),
        merged((Loop(columns, plane),)),
        offset=y.first * width + x.first,
    )
