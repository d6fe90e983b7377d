"""Cycles and traffic of programs against a register-level model and plain counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolic_cases import ARRAYS, array, convolutions, expected, operand_values, products
from systolic_register_model import simulate

from motet.targets.systolic.closed_form import gemm_cycles, ws_double_buffered_cycles
from motet.targets.systolic.codegen import compile_layer
from motet.targets.systolic.isa import Instruction, Opcode
from motet.targets.systolic.layers import Convolution, MatrixProduct
from motet.targets.systolic.timing import layer_counts


@settings(max_examples=60, deadline=None)
@given(layer=st.one_of(convolutions(), products()), description=st.sampled_from(ARRAYS))
def test_counts_follow_from_the_matmuls(layer, description):
    program = compile_layer(layer, description)
    items = [Instruction(*values) for values in program.instructions.tolist()]
    matmuls = [item for item in items if item.opcode == Opcode.MATMUL]
    counts = layer_counts(program, description)
    rows, columns = description.rows, description.columns
    streamed = [item.rows for item in matmuls]
    assert counts.cycles == ws_double_buffered_cycles(streamed, rows, columns)
    assert counts.macs == layer.macs == sum(x.rows * x.depth * x.columns for x in matmuls)
    assert counts.tiles == len(matmuls)
    assert counts.utilisation == layer.macs / (counts.cycles * rows * columns)
    assert 0 < counts.utilisation <= 1


@settings(max_examples=25, deadline=None)
@given(
    m=st.integers(1, 9), n=st.integers(1, 6), k=st.integers(1, 7), side=st.sampled_from([2, 3, 4])
)
def test_a_program_on_the_register_model(m, n, k, side):
    """The program's own tiles, zero-padded to the array, give its values and its cycles."""
    layer = MatrixProduct(1, m, n, k)
    description = array(side, side, scratchpad=512, accumulator=4 * side * 8)
    program = compile_layer(layer, description)
    x, w = (value[0].astype(int) for value in operand_values(layer))
    tiles, places, loaded = [], [], {}
    for values in program.instructions.tolist():
        item = Instruction(*values)
        if item.opcode in (Opcode.LOAD_INPUT, Opcode.LOAD_WEIGHT):
            source = x if item.opcode == Opcode.LOAD_INPUT else w
            part = source[item.row : item.row + item.rows, item.column : item.column + item.columns]
            loaded[item.address] = (part, item)
        elif item.opcode == Opcode.MATMUL:
            (inputs, from_input), (weights, from_weight) = (
                loaded[item.address],
                loaded[item.weight_address],
            )
            padded = np.zeros((side, side), int)
            padded[: item.depth, : item.columns] = weights
            tiles.append((np.pad(inputs, ((0, 0), (0, side - item.depth))), padded))
            places.append((from_input.row, from_weight.column, item.rows, item.columns))
    cycles, outputs = simulate(tiles, side, side)
    result = np.zeros((m, n), int)
    for (row, column, rows, columns), output in zip(places, outputs, strict=True):
        result[row : row + rows, column : column + columns] += output[:, :columns]
    np.testing.assert_array_equal(result, expected(layer, operand_values(layer))[0])
    assert layer_counts(program, description).cycles == cycles


def gathered(layer, item):
    """DRAM values of an input tile of a convolution, one by one."""
    height, width = layer.out_size
    found = set()
    for row in range(item.row, item.row + item.rows):
        image, place = divmod(row, height * width)
        for column in range(item.column, item.column + item.columns):
            channel, tap = divmod(column, layer.kernel[0] * layer.kernel[1])
            ky, kx = divmod(tap, layer.kernel[1])
            y = place // width * layer.stride[0] + ky * layer.dilation[0] - layer.padding[0]
            x = place % width * layer.stride[1] + kx * layer.dilation[1] - layer.padding[1]
            if 0 <= y < layer.in_height and 0 <= x < layer.in_width:
                found.add((image, channel, y, x))
    return len(found)


@settings(max_examples=60, deadline=None)
@given(layer=convolutions(), description=st.sampled_from(ARRAYS))
def test_convolution_traffic(layer, description):
    program = compile_layer(layer, description)
    read = 0
    for values in program.instructions.tolist():
        item = Instruction(*values)
        if item.opcode == Opcode.LOAD_INPUT:
            read += gathered(layer, item)
        elif item.opcode == Opcode.LOAD_WEIGHT:
            read += item.rows * item.columns
        elif item.opcode == Opcode.LOAD_BIAS and layer.bias:
            read += item.columns
    counts = layer_counts(program, description)
    assert counts.dram_read_bytes == 4 * read
    assert counts.dram_write_bytes == 4 * math.prod(layer.output_shape)
    # array() moves 4 bytes a cycle.
    assert counts.dram_cycles == read + math.prod(layer.output_shape) + 10


def test_nothing_is_read_twice_where_all_fits():
    layer = MatrixProduct(1, 40, 24, 32)
    counts = layer_counts(
        compile_layer(layer, array(8, 8, 2**16, 2**14)), array(8, 8, 2**16, 2**14)
    )
    assert counts.dram_read_bytes == 4 * (40 * 32 + 32 * 24)


@pytest.mark.parametrize(
    "layer",
    [
        MatrixProduct(1, 100, 70, 33),
        Convolution(1, 16, 32, 1, 14, 14, (3, 3), padding=(1, 1, 1, 1)),
    ],
)
def test_whole_chunks_reach_the_closed_form_of_the_layer(layer):
    """Where M is not cut, a program takes the cycles of the layer's closed form."""
    description = array(16, 16, 2**18, 2**16)
    groups, m, n, k = layer.product_shape
    assert groups == 1
    cycles = layer_counts(compile_layer(layer, description), description).cycles
    assert cycles == gemm_cycles(m, n, k, 16, 16, "weight-stationary", "double-buffered")
