"""Gathered tiles are those that the plain address formula gives, value by value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.footprint import value_address
from motet.targets.systolic.instructions.program import Role, SystolicProgram, Tensor
from motet.targets.systolic.simulation.gather import place_column, read_tile, write_tile


@njit
def gathered(source, view, corner, shape, padding):
    made = np.zeros(shape[0] * shape[1], source.dtype)
    segments = np.zeros((shape[0], 4), np.int64)
    read_tile(made, source, view, corner, shape, padding, False, segments)
    return made


@njit
def scattered(size, source, view, corner, shape, limits):
    made = np.zeros(size, source.dtype)
    segments = np.zeros((shape[0], 4), np.int64)
    write_tile(made, source, view, corner, shape, limits, False, segments)
    return made


@njit
def segments_of(view, group, row, column, rows):
    segments = np.zeros((rows, 4), np.int64)
    return segments[: place_column(view, group, row, column, rows, segments)]


def view_record(view):
    tensors = (Tensor("x", view.shape, Role.INPUT),)
    return SystolicProgram("fp32", np.zeros(0), np.zeros(1), tensors, (view,)).view_table


def expected(table, corner, shape):
    """Addresses [rows, columns] by division, a value at a time."""
    group, row, column = corner
    return np.array(
        [
            [value_address(table, 0, group, row + r, column + c) for c in range(shape[1])]
            for r in range(shape[0])
        ]
    )


@st.composite
def views(draw):
    """Views of random loops over a random padded tensor, strides of any sign and zero."""
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=2, max_size=4)))
    padding = draw(st.one_of(st.just((0, 0, 0, 0)), st.tuples(*[st.integers(0, 3)] * 4)))
    probe = View(0, shape, Loop(1, 0), (Loop(1, 0),), (Loop(1, 0),), padding)
    room = int(np.prod(probe.padded_shape)) - 1
    loops, low, high = [], 0, 0
    for _ in range(draw(st.integers(3, 7))):
        extent = draw(st.integers(1, 6))
        reach = room - (high - low)
        stride = draw(st.integers(-(reach // max(1, extent - 1)), reach // max(1, extent - 1)))
        low += min(0, (extent - 1) * stride)
        high += max(0, (extent - 1) * stride)
        loops.append(Loop(extent, stride))
    offset = draw(st.integers(-low, room - high))
    cut = draw(st.integers(max(2, len(loops) - 3), min(4, len(loops) - 1)))
    return View(0, shape, loops[0], tuple(loops[1:cut]), tuple(loops[cut:]), padding, offset)


@st.composite
def tiles(draw):
    view = draw(views())
    row = draw(st.integers(0, view.row_count - 1))
    column = draw(st.integers(0, view.column_count - 1))
    rows = draw(st.integers(1, view.row_count - row))
    columns = draw(st.integers(1, min(8, view.column_count - column)))
    corner = (draw(st.integers(0, view.group.extent - 1)), row, column)
    return view, corner, (rows, columns)


@settings(max_examples=150, deadline=None)
@given(tiles())
def test_a_gathered_tile_is_what_the_addresses_say(tile):
    view, corner, shape = tile
    table = view_record(view)
    source = np.arange(1, np.prod(view.shape) + 1, dtype=np.int32)
    at = expected(table, corner, shape)
    made = gathered(source, table[0], corner, shape, np.int32(-5))
    assert np.array_equal(made.reshape(shape[::-1]).T, np.where(at < 0, -5, at + 1))


@settings(max_examples=100, deadline=None)
@given(tiles())
def test_a_scattered_tile_lands_where_the_addresses_say(tile):
    view, corner, shape = tile
    table = view_record(view)
    at = expected(table, corner, shape)
    source = np.arange(1, at.size + 1, dtype=np.int32)
    limits = (np.int32(3), np.int32(30))
    made = scattered(int(np.prod(view.shape)), source, table[0], corner, shape, limits)
    wanted = np.zeros_like(made)
    values = np.clip(source, 3, 30).reshape(shape[::-1]).T
    for c in range(shape[1]):  # where several meet, the last in the order of columns stays
        for r in range(shape[0]):
            if at[r, c] >= 0:
                wanted[at[r, c]] = values[r, c]
    assert np.array_equal(made, wanted)


@pytest.mark.parametrize("stride", [1, 2, -1, -3])
def test_a_line_without_padding_is_one_segment(stride):
    offset = 0 if stride > 0 else 60
    view = View(0, (64,), Loop(1, 0), (Loop(20, stride),), (Loop(1, 0),), offset=offset)
    found = segments_of(view_record(view)[0], 0, 3, 0, 9)
    assert found.tolist() == [[0, 9, offset + 3 * stride, stride]]


def test_padding_cuts_a_line_in_three():
    view = View(0, (2, 5), Loop(1, 0), (Loop(9, 1),), (Loop(1, 0),), (1, 2, 0, 2), offset=9)
    found = segments_of(view_record(view)[0], 0, 0, 0, 9)
    assert found.tolist() == [[0, 2, -1, 0], [2, 5, 0, 1], [7, 2, -1, 0]]
