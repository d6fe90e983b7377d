"""Where values of views lie in their tensors, and how many different ones a tile touches.

A DMA engine reads each DRAM value of a tile once: what im2col shows several times is
repeated on the way, and padding's zeros are made, not read. ``tile_values`` counts those
values exactly. Loops whose stride is beyond the reach of all smaller ones (batch, channel)
can meet no address twice, so tiles are cut along them into segments that share nothing and
come in at most three shapes (first, whole, last); within a segment the set of addresses is
the sum of the sets of row and of column offsets, kept as a bitmap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def value_address(view_table: Any, operand: int, group: int, row: int, column: int) -> int:
    """Linear index in its tensor of value (group, row, column) of a view; -1 for padding.

    ``view_table``: structured array of ``program.VIEW``; ``operand``: the view's number.
    """
    view = view_table[operand]
    address = view.offset + group * view.group_stride
    for loop in range(2, -1, -1):
        address += row % view.row_extent[loop] * view.row_stride[loop]
        row //= view.row_extent[loop]
        address += column % view.column_extent[loop] * view.column_stride[loop]
        column //= view.column_extent[loop]
    if not view.padded:
        return int(address)
    plane, inside = divmod(address, view.padded_height * view.padded_width)
    y, x = divmod(inside, view.padded_width)
    y -= view.top
    x -= view.left
    if y < 0 or y >= view.height or x < 0 or x >= view.width:
        return -1
    return int((plane * view.height + y) * view.width + x)


@njit(cache=True, nogil=True)
def tile_values(
    view_table: Any, operand: int, group: int, row: int, column: int, rows: int, columns: int
) -> int:
    """How many different values of its tensor a tile of a view touches; padding is none.

    The tile is rows [row, row + rows) x columns [column, column + columns) of matrix ``group``.
    """
    view = view_table[operand]
    outer_rows, outer_columns, injective = _separate_loops(view)
    if injective and not view.padded:
        return rows * columns
    row_size, column_size = 1, 1
    for loop in range(outer_rows, 3):
        row_size *= view.row_extent[loop]
    for loop in range(outer_columns, 3):
        column_size *= view.column_extent[loop]
    row_segments = _segments(row, rows, row_size)
    column_segments = _segments(column, columns, column_size)
    base = view.offset + group * view.group_stride
    total = 0
    for i in range(3):
        for j in range(3):
            repeats = row_segments[i, 2] * column_segments[j, 2]
            if repeats:
                total += repeats * _segment_values(
                    view, base, row_segments[i], outer_rows, column_segments[j], outer_columns
                )
    return total


@njit(cache=True, nogil=True)
def _separate_loops(view: Any) -> tuple[int, int, bool]:
    """How many outer row and column loops reach no address twice, and whether all loops do so.

    Under padding the stride must also be whole planes, so that all segments are padded alike.
    """
    plane = view.padded_height * view.padded_width
    outer_rows, outer_columns = 0, 0
    while True:
        while outer_rows < 3 and view.row_extent[outer_rows] == 1:
            outer_rows += 1
        while outer_columns < 3 and view.column_extent[outer_columns] == 1:
            outer_columns += 1
        if outer_rows == 3 and outer_columns == 3:
            return outer_rows, outer_columns, True
        reach = 0
        for loop in range(outer_rows, 3):
            reach += (view.row_extent[loop] - 1) * abs(view.row_stride[loop])
        for loop in range(outer_columns, 3):
            reach += (view.column_extent[loop] - 1) * abs(view.column_stride[loop])
        row_stride = abs(view.row_stride[outer_rows]) if outer_rows < 3 else -1
        column_stride = abs(view.column_stride[outer_columns]) if outer_columns < 3 else -1
        is_row = row_stride >= column_stride
        stride = max(row_stride, column_stride)
        if is_row:
            reach -= (view.row_extent[outer_rows] - 1) * stride
        else:
            reach -= (view.column_extent[outer_columns] - 1) * stride
        if stride <= reach or (view.padded and stride % plane):
            return outer_rows, outer_columns, False
        if is_row:
            outer_rows += 1
        else:
            outer_columns += 1


@njit(cache=True, nogil=True)
def _segments(start: int, count: int, size: int) -> Any:
    """[start, start + count) cut at multiples of ``size``: int64 [3, (start, count, repeats)]."""
    made = np.zeros((3, 3), np.int64)
    head = start % size
    if head or count < size:
        first = min(size - head, count)
        made[0, 0], made[0, 1], made[0, 2] = head, first, 1
        count -= first
    made[1, 1], made[1, 2] = size, count // size
    if count % size:
        made[2, 1], made[2, 2] = count % size, 1
    return made


@njit(cache=True, nogil=True)
def _offsets(start: int, count: int, extents: Any, strides: Any, outer: int) -> Any:
    """Address offsets of ``count`` consecutive indices over the loops from ``outer`` on."""
    made = np.empty(count, np.int64)
    for i in range(count):
        index, offset = start + i, 0
        for loop in range(2, outer - 1, -1):
            if index == 0:
                break
            extent = extents[loop]
            offset += index % extent * strides[loop]
            index //= extent
        made[i] = offset
    return made


@njit(cache=True, nogil=True)
def _segment_values(
    view: Any, base: int, row_part: Any, outer_rows: int, column_part: Any, outer_columns: int
) -> int:
    """Different values of one segment: the sum of the sets of its row and column offsets."""
    rows = _offsets(row_part[0], row_part[1], view.row_extent, view.row_stride, outer_rows)
    columns = _offsets(
        column_part[0], column_part[1], view.column_extent, view.column_stride, outer_columns
    )
    if len(rows) < len(columns):
        rows, columns = columns, rows
    lowest, span = rows.min(), rows.max() - rows.min() + 1
    pattern = np.zeros(span, np.uint8)
    for offset in rows:
        pattern[offset - lowest] = 1
    first = columns.min()
    touched = np.zeros(span + columns.max() - first, np.uint8)
    for offset in columns:
        place = touched[offset - first : offset - first + span]
        for i in range(span):
            place[i] |= pattern[i]
    return _held(view, base + lowest + first, touched)


@njit(cache=True, nogil=True)
def _held(view: Any, start: int, touched: Any) -> int:
    """How many touched addresses from ``start`` on lie inside the padding."""
    total = 0
    if not view.padded:
        for i in range(len(touched)):
            total += touched[i]
        return total
    y, x = divmod(start % (view.padded_height * view.padded_width), view.padded_width)
    bottom, right = view.top + view.height, view.left + view.width
    at = 0
    while at < len(touched):
        count = min(view.padded_width - x, len(touched) - at)
        if view.top <= y < bottom:
            begin = max(view.left - x, 0)
            for i in range(at + begin, at + max(begin, min(count, right - x))):
                total += touched[i]
        at += count
        x = 0
        y += 1
        if y == view.padded_height:
            y = 0
    return total
