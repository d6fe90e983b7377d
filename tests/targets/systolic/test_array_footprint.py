"""Values that tiles of views touch, against enumeration by numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.footprint import tile_values, value_address
from motet.targets.systolic.instructions.isa import empty_instructions
from motet.targets.systolic.instructions.program import Role, SystolicProgram, Tensor
from motet.targets.systolic.workload.layers import Convolution
from motet.targets.systolic.workload.products import product_views


def table(view):
    tensors = (Tensor("t", view.shape, Role.INPUT),)
    program = SystolicProgram(
        "int8", empty_instructions(0), np.zeros(5, np.int64), tensors, (view,)
    )
    return program.view_table


def addresses(view, group, rows, columns):
    """Linear indices of the tensor under a tile, -1 for padding: by numpy, on a padded copy."""
    tensor = np.arange(np.prod(view.shape)).reshape(view.shape)
    top, left, bottom, right = view.padding
    if any(view.padding):
        ends = [(0, 0)] * (tensor.ndim - 2) + [(top, bottom), (left, right)]
        tensor = np.pad(tensor, ends, constant_values=-1)
    row_part = along(view.rows)[rows]
    column_part = along(view.columns)[columns]
    at = view.offset + group * view.group.stride + row_part[:, None] + column_part[None]
    return tensor.ravel()[at]


def along(loops):
    total = np.zeros((), np.int64)
    for loop in loops:
        total = total[..., None] + np.arange(loop.extent) * loop.stride
    return total.ravel()


def check(view, group, row, rows, column, columns):
    expected = addresses(view, group, slice(row, row + rows), slice(column, column + columns))
    records = table(view)
    found = tile_values(records, 0, group, row, column, rows, columns)
    assert found == len(np.unique(expected[expected >= 0]))
    for r, c in {(0, 0), (rows - 1, columns - 1), (rows // 2, columns // 3)}:
        assert value_address(records, 0, group, row + r, column + c) == expected[r, c]


@st.composite
def tiles(draw, view):
    row = draw(st.integers(0, view.row_count - 1))
    column = draw(st.integers(0, view.column_count - 1))
    rows = draw(st.integers(1, view.row_count - row))
    columns = draw(st.integers(1, view.column_count - column))
    return draw(st.integers(0, view.group.extent - 1)), row, rows, column, columns


@st.composite
def convolutions(draw):
    small = st.integers(1, 3)
    groups = draw(small)
    kernel = draw(small), draw(small)
    dilation = draw(small), draw(small)
    return Convolution(
        batch=draw(small),
        in_channels=groups * draw(small),
        out_channels=groups,
        groups=groups,
        in_height=draw(st.integers(1 + dilation[0] * (kernel[0] - 1), 9)),
        in_width=draw(st.integers(1 + dilation[1] * (kernel[1] - 1), 9)),
        kernel=kernel,
        stride=(draw(small), draw(small)),
        padding=tuple(draw(st.integers(0, 2)) for _ in range(4)),
        dilation=dilation,
    )


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_tiles_of_convolutions(data):
    views = product_views(data.draw(convolutions()), (0, 0), 0)
    view = data.draw(st.sampled_from([views.input, views.weight, views.output]))
    check(view, *data.draw(tiles(view)))


@st.composite
def views(draw):
    """Any loops at all, broadcasts and backward strides included, that stay in the tensor."""
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    padding = (0, 0, 0, 0)
    if len(shape) >= 2:
        padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    loops = st.builds(Loop, st.integers(1, 4), st.integers(-9, 40))
    some = st.lists(loops, min_size=1, max_size=3).map(tuple)
    view = View(0, shape, Loop(draw(st.integers(1, 2)), 0), draw(some), draw(some), padding)
    size = int(np.prod(view.padded_shape))
    low, high = view.first_address, view.last_address
    if high - low >= size:
        return View(0, shape, Loop(1, 0), (Loop(size, 1),), (Loop(1, 0),), padding)
    offset = draw(st.integers(-low, size - 1 - high))
    return View(0, shape, view.group, view.rows, view.columns, padding, offset)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_tiles_of_any_view(data):
    view = data.draw(views())
    check(view, *data.draw(tiles(view)))


def test_im2col_repeats_are_read_once():
    layer = Convolution(1, 1, 1, 1, 4, 4, (3, 3), padding=(1, 1, 1, 1))
    view = product_views(layer, (0, 1), 2).input
    assert tile_values(table(view), 0, 0, 0, 0, 16, 9) == 16


@pytest.mark.parametrize("columns", [1, 4])
def test_a_plain_matrix_is_read_whole(columns):
    view = View(0, (5, 4), Loop(1, 0), (Loop(5, 4),), (Loop(4, 1),))
    assert tile_values(table(view), 0, 0, 1, 0, 3, columns) == 3 * columns
