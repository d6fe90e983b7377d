"""Shared by the array's tests: small arrays, random layers, and numpy references."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from motet.targets.systolic.description import ArrayDescription
from motet.targets.systolic.layers import Convolution, MatrixProduct


def array(rows=4, columns=4, scratchpad=4096, accumulator=1024):
    """A one-pod array; memories in bytes."""
    return ArrayDescription(
        name=f"test-{rows}x{columns}",
        pods=1,
        rows=rows,
        columns=columns,
        dataflows=("weight-stationary",),
        formats=("fp32",),
        scratchpad_bytes=scratchpad,
        accumulator_bytes=accumulator,
        dram_bytes_per_second=4e9,
        dram_latency_cycles=10,
        clock_hz=1e9,
    )


ARRAYS = (
    array(),
    array(scratchpad=256, accumulator=128),
    array(rows=1, columns=3, scratchpad=64, accumulator=48),
    array(rows=8, columns=2, scratchpad=640, accumulator=144),
    array(rows=16, columns=16, scratchpad=65536, accumulator=16384),
)

CLAMPS = st.sampled_from([None, (0.0, float("inf")), (0.0, 6.0), (-3.0, 2.0)])


@st.composite
def convolutions(draw):
    small = st.integers(1, 3)
    groups = draw(st.integers(1, 4))
    kernel = (draw(small), draw(small))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    return Convolution(
        batch=draw(st.integers(1, 2)),
        in_channels=groups * draw(small),
        out_channels=groups * draw(st.integers(1, 5)),
        groups=groups,
        in_height=draw(st.integers(max(1, reach[0] - padding[0] - padding[2]), 9)),
        in_width=draw(st.integers(max(1, reach[1] - padding[1] - padding[3]), 9)),
        kernel=kernel,
        stride=(draw(small), draw(small)),
        padding=padding,
        dilation=dilation,
        bias=draw(st.booleans()),
        clamp=draw(CLAMPS),
    )


@st.composite
def products(draw):
    sizes = [draw(st.integers(1, high)) for high in (3, 12, 10, 20)]
    return MatrixProduct(*sizes, draw(st.booleans()), draw(st.booleans()), draw(CLAMPS))


def operand_values(layer, seed=0):
    """Input, weight and, where the layer has one, bias: small integers, exact in fp32."""
    rng = np.random.default_rng(seed)
    shapes = [layer.input_shape, layer.weight_shape]
    if layer.bias:
        columns = layer.out_channels if isinstance(layer, Convolution) else layer.n
        shapes.append((columns,))
    return [rng.integers(-4, 5, shape).astype(np.float32) for shape in shapes]


def expected(layer, values):
    """The layer's output in float64, by plain numpy."""
    wide = [value.astype(np.float64) for value in values]
    if isinstance(layer, Convolution):
        result = _convolve(layer, *wide[:2])
        bias = wide[2].reshape(1, -1, 1, 1) if layer.bias else 0.0
    else:
        result = wide[0] @ wide[1]
        bias = wide[2] if layer.bias else 0.0
    result = result + bias
    return result if layer.clamp is None else np.clip(result, *layer.clamp)


def _convolve(layer, x, w):
    top, left, bottom, right = layer.padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    height, width = layer.out_size
    result = np.zeros(layer.output_shape)
    per_input, per_output = w.shape[1], layer.out_channels // layer.groups
    for group in range(layer.groups):
        source = x[:, group * per_input : (group + 1) * per_input]
        target = slice(group * per_output, (group + 1) * per_output)
        for ky in range(layer.kernel[0]):
            for kx in range(layer.kernel[1]):
                y0, x0 = ky * layer.dilation[0], kx * layer.dilation[1]
                window = source[:, :, y0:, x0:]
                window = window[:, :, :: layer.stride[0], :: layer.stride[1]]
                window = window[:, :, :height, :width]
                taps = w[target, :, ky, kx]
                result[:, target] += np.einsum("bchw,oc->bohw", window, taps)
    return result
