"""The functional view in fp32: tile products, convolutions in tiles, and pooling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from array_builder import (
    ONE,
    im2col,
    matrix,
    record,
    sequence,
    tiles_of,
    values_of,
)

from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.isa import Flag, Function, Opcode
from motet.targets.systolic.instructions.program import Element, Role, Tensor

RNG = np.random.default_rng(2026)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def near(made, wanted, tolerance=1e-5):
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(made, wanted, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 1, 1), (5, 13, 3), (1500, 32, 32)])
@pytest.mark.parametrize("start", ["zero", "bias", "accumulate"])
def test_a_matmul(rows, depth, columns, start):
    x, w, bias = floats(rows, depth), floats(depth, columns), floats(1, columns)
    tensors = (
        Tensor("x", x.shape, Role.INPUT),
        Tensor("w", w.shape, Role.WEIGHT),
        Tensor("b", bias.shape, Role.WEIGHT, Element.FP32),
        Tensor("y", (rows, columns), Role.OUTPUT),
    )
    views = tuple(matrix(i, *t.shape) for i, t in enumerate(tensors))
    weights, vector = rows * depth, rows * columns
    sums = {"rows": 1, "columns": columns, "flags": Flag.ACCUMULATORS}
    product = {
        "rows": rows,
        "depth": depth,
        "columns": columns,
        "second_address": weights,
        "third_address": vector,
    }
    flags = {"zero": 0, "bias": Flag.BIAS, "accumulate": Flag.ACCUMULATE}[start]
    records = [
        record(Opcode.LOAD, operand=0, rows=rows, columns=depth),
        record(Opcode.LOAD, operand=1, rows=depth, columns=columns, address=weights),
        record(Opcode.LOAD, operand=2, accumulator_address=vector, **sums),
        record(Opcode.MATMUL, **product),
        record(Opcode.MATMUL, **product, flags=flags),
        record(Opcode.STORE, operand=3, rows=rows, columns=columns),
    ]
    (y,) = values_of(sequence("fp32", tensors, views, records), x, w, bias)
    wanted = x.astype(np.float64) @ w
    wanted = {"zero": wanted, "bias": wanted + bias, "accumulate": 2 * wanted}[start]
    near(y, wanted)


def convolution(number_format, case, resident=False):
    """A convolution of one group, in tiles of 8 rows, 7 deep and 3 channels."""
    shape, out_channels, kernel, stride, dilation, padding = case
    inputs = im2col(0, shape, kernel, stride, dilation, padding)
    rows, depth = inputs.row_count, inputs.column_count
    batch, channels = shape[:2]
    pixels = inputs.rows[1].extent * inputs.rows[2].extent
    tensors = [
        Tensor("x", shape, Role.INPUT),
        Tensor("w", (out_channels, channels, *kernel), Role.WEIGHT),
        Tensor("y", (batch, out_channels, pixels), Role.OUTPUT),
    ]
    out_rows = (Loop(batch, out_channels * pixels), Loop(pixels, 1))
    views = [
        inputs,
        View(1, (out_channels, depth), ONE, (Loop(depth, 1),), (Loop(out_channels, depth),)),
        View(2, (batch, out_channels, pixels), ONE, out_rows, (Loop(out_channels, pixels),)),
    ]
    records = []
    if resident:
        size = math.prod(shape)
        flat = View(0, (size,), ONE, (Loop(size, 1),), (ONE,))
        tensors.append(Tensor("kept", shape, Role.INTERNAL, resident=100))
        kept = im2col(3, shape, kernel, stride, dilation, padding)
        views += [flat, kept, View(3, (size,), ONE, (Loop(size, 1),), (ONE,))]
        whole = {"rows": size, "columns": 1, "accumulator_address": 50}
        records.append(record(Opcode.LOAD, operand=3, flags=Flag.ACCUMULATORS, **whole))
        records.append(record(Opcode.TRANSFER, operand=5, **whole))
    for (row, count), (column, wide) in tiles_of((rows, 8), (out_channels, 3)):
        for ((k, deep),) in tiles_of((depth, 7)):
            product = {"rows": count, "depth": deep, "columns": wide, "second_address": 60}
            flags = Flag.ACCUMULATE if k else Flag.NONE
            if resident:
                product |= {"operand": 4, "row": row, "column": k}
                flags |= Flag.RESIDENT
            else:
                place = {"row": row, "column": k, "rows": count, "columns": deep}
                records.append(record(Opcode.LOAD, operand=0, **place))
            place = {"row": k, "column": column, "rows": deep, "columns": wide}
            records.append(record(Opcode.LOAD, operand=1, address=60, **place))
            records.append(record(Opcode.MATMUL, flags=flags, **product))
        place = {"row": row, "column": column, "rows": count, "columns": wide}
        records.append(record(Opcode.STORE, operand=2, **place))
    return sequence(number_format, tuple(tensors), tuple(views), records)


def convolved(x, w, stride, dilation, padding):
    """Plain einsum over windows: [batch, out channels, pixels]."""
    top, left, bottom, right = padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = [d * (k - 1) + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    made = np.einsum("bcyxkl,ockl->boyx", windows, w)
    return made.reshape(*made.shape[:2], -1)


CONVOLUTIONS = [
    ((1, 3, 6, 7), 4, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    ((2, 2, 9, 8), 5, (3, 2), (2, 3), (1, 1), (0, 1, 2, 0)),
    ((1, 2, 9, 9), 3, (3, 3), (1, 2), (2, 3), (2, 3, 2, 3)),
    ((3, 5, 4, 4), 7, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
    ((1, 1, 3, 11), 2, (1, 5), (1, 2), (1, 1), (0, 4, 0, 4)),
]


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_convolution_in_tiles(case, resident):
    shape, out_channels, kernel, stride, dilation, padding = case
    x, w = floats(*shape), floats(out_channels, shape[1], *kernel)
    (y,) = values_of(convolution("fp32", case, resident), x, w)
    near(y, convolved(x.astype(np.float64), w, stride, dilation, padding))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("flags", [Flag.NONE, Flag.BIAS, Flag.ACCUMULATE])
def test_lines_of_a_1d_convolution(stride, flags):
    rows, columns, taps = 5, 6, 4
    wide = (columns - 1) * stride + taps
    x, w, bias = floats(rows, wide), floats(rows, taps), floats(rows, 1)
    tensors = (
        Tensor("x", x.shape, Role.INPUT),
        Tensor("w", w.shape, Role.WEIGHT),
        Tensor("b", bias.shape, Role.WEIGHT),
        Tensor("y", (rows, columns), Role.OUTPUT),
    )
    views = tuple(matrix(i, *t.shape) for i, t in enumerate(tensors))
    lines = {"rows": rows, "columns": columns, "depth": taps, "value": stride}
    lines |= {"second_address": 200, "third_address": 100}
    vector = {"rows": rows, "columns": 1, "accumulator_address": 100}
    records = [
        record(Opcode.LOAD, operand=0, rows=rows, columns=wide),
        record(Opcode.LOAD, operand=1, rows=rows, columns=taps, address=200),
        record(Opcode.LOAD, operand=2, flags=Flag.ACCUMULATORS, **vector),
        record(Opcode.CONV1D, **lines),
        record(Opcode.CONV1D, **lines, flags=flags),
        record(Opcode.STORE, operand=3, rows=rows, columns=columns),
    ]
    (y,) = values_of(sequence("fp32", tensors, views, records), x, w, bias)
    windows = np.lib.stride_tricks.sliding_window_view(x, taps, axis=1)[:, ::stride]
    wanted = np.einsum("rxt,rt->rx", windows.astype(np.float64), w)
    wanted = {0: wanted, Flag.BIAS: wanted + bias, Flag.ACCUMULATE: 2 * wanted}[flags]
    near(y, wanted)


def test_max_pooling_reads_padding_as_the_lowest_value():
    x = -1 - np.abs(floats(2, 4, 4))
    shape = (1, 2, 4, 4)
    window = im2col(0, shape, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1))
    rows = window.row_count
    taps = View(0, shape, Loop(9, 0), window.rows, window.columns[:1], window.padding)
    out = View(1, (2, rows), ONE, (Loop(rows, 1),), (Loop(2, rows),))
    records = []
    for tap in range(9):
        address = tap * rows * 2
        function = Function.MAXIMUM if tap else Function.COPY
        flags = Flag.PAD_LOWEST
        place = {"rows": rows, "columns": 2, "operand": tap + 1, "address": address}
        records.append(record(Opcode.LOAD, flags=flags, **place))
        tile = {"rows": rows, "columns": 2, "second_address": address}
        records.append(record(Opcode.VECTOR, function=function, **tile))
    records.append(record(Opcode.STORE, operand=0, rows=rows, columns=2))
    views = [out]
    for tap in range(9):
        offset = tap // 3 * 6 + tap % 3
        views.append(View(0, shape, ONE, taps.rows, taps.columns, taps.padding, offset))
    tensors = (Tensor("x", shape, Role.INPUT), Tensor("y", (2, rows), Role.OUTPUT))
    (y,) = values_of(sequence("fp32", tensors, tuple(views), records), x[None])
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    np.testing.assert_array_equal(y, windows.max(axis=(3, 4)).reshape(2, -1))
