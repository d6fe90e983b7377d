"""What an instruction reads and writes: tiles in memories, and runs of values in tensors.

For compiled code. A tile is dense, so it is one interval of words. A tile of a view is given
as runs (first value, how many, stride) of its tensor, padding left out.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from motet.targets.systolic.instructions.isa import NO_OPERAND, Flag, Function, Opcode

SCRATCHPAD, ACCUMULATORS = 0, 1
MEMORY, LOW, HIGH, WRITES, ON_TARGETS = range(5)
"""Columns of what ``tile_accesses`` fills. ON_TARGETS: in all target pods, not in its own."""
MAX_ACCESSES = 6

_LOAD, _MATMUL, _CONV1D = int(Opcode.LOAD), int(Opcode.MATMUL), int(Opcode.CONV1D)
_VECTOR, _STORE, _TRANSFER = int(Opcode.VECTOR), int(Opcode.STORE), int(Opcode.TRANSFER)
_ACCUMULATE, _BIAS = int(Flag.ACCUMULATE), int(Flag.BIAS)
_RESIDENT, _IN_ACCUMULATORS = int(Flag.RESIDENT), int(Flag.ACCUMULATORS)
_COPY, _MAXIMUM = int(Function.COPY), int(Function.MAXIMUM)
_COLUMN_SCALE, _COLUMN_ADD = int(Function.COLUMN_SCALE), int(Function.COLUMN_ADD)
_REQUANTISE, _DEQUANTISE = int(Function.REQUANTISE), int(Function.DEQUANTISE)
_ROW_REQUANTISE = int(Function.ROW_REQUANTISE)
_ROW_MAXIMUM, _ROW_SUM_SQUARES = int(Function.ROW_MAXIMUM), int(Function.ROW_SUM_SQUARES)
_ROW_MULTIPLY = int(Function.ROW_MULTIPLY)
_NONE = NO_OPERAND


@njit(cache=True, nogil=True)
def _note(
    out: Any, count: int, memory: int, low: int, words: int, writes: int, on_targets: int
) -> int:
    out[count, 0], out[count, 1], out[count, 2] = memory, low, low + words
    out[count, 3], out[count, 4] = writes, on_targets
    return count + 1


@njit(cache=True, nogil=True)
def tile_accesses(c: Any, out: Any) -> int:
    """Fill ``out``, int64 [MAX_ACCESSES, 5], with the tiles of instruction ``c``; how many.

    Reads come before writes. What a view names is not among them.
    """
    opcode, flags = int(c.opcode), int(c.flags)
    rows, columns, depth = int(c.rows), int(c.columns), int(c.depth)
    address, second = int(c.address), int(c.second_address)
    third, place = int(c.third_address), int(c.accumulator_address)
    tile, n = rows * columns, 0
    if opcode == _LOAD:
        if flags & _IN_ACCUMULATORS:
            return _note(out, n, ACCUMULATORS, place, tile, 1, 1)
        return _note(out, n, SCRATCHPAD, address, tile, 1, 1)
    if opcode in (_MATMUL, _CONV1D):
        wide, weights, vector = depth, depth * columns, columns
        if opcode == _CONV1D:
            wide, weights, vector = (columns - 1) * int(c.value) + depth, rows * depth, rows
        if not flags & _RESIDENT:
            n = _note(out, n, SCRATCHPAD, address, rows * wide, 0, 0)
        n = _note(out, n, SCRATCHPAD, second, weights, 0, 0)
        if flags & _BIAS:
            n = _note(out, n, ACCUMULATORS, third, vector, 0, 0)
        if flags & _ACCUMULATE:
            n = _note(out, n, ACCUMULATORS, place, tile, 0, 0)
        return _note(out, n, ACCUMULATORS, place, tile, 1, 0)
    if opcode == _VECTOR:
        return _vector_accesses(c, out)
    if opcode == _STORE or (opcode == _TRANSFER and c.operand != _NONE):
        return _note(out, n, ACCUMULATORS, place, tile, 0, 0)
    if opcode == _TRANSFER:
        if flags & _IN_ACCUMULATORS:
            n = _note(out, n, ACCUMULATORS, place, tile, 0, 0)
            return _note(out, n, ACCUMULATORS, third, tile, 1, 1)
        n = _note(out, n, SCRATCHPAD, second, tile, 0, 0)
        return _note(out, n, SCRATCHPAD, address, tile, 1, 1)
    return n


@njit(cache=True, nogil=True)
def _vector_accesses(c: Any, out: Any) -> int:
    function, flags, n = int(c.function), int(c.flags), 0
    rows, columns = int(c.rows), int(c.columns)
    second, third, place = int(c.second_address), int(c.third_address), int(c.accumulator_address)
    tile = rows * columns
    by_column = function in (_COLUMN_SCALE, _COLUMN_ADD, _REQUANTISE, _DEQUANTISE)
    by_row = _ROW_MAXIMUM <= function <= _ROW_MULTIPLY or function == _ROW_REQUANTISE
    reduces = _ROW_MAXIMUM <= function <= _ROW_SUM_SQUARES
    length = columns if by_column else rows
    if _COPY <= function <= _MAXIMUM and not flags & _RESIDENT:
        memory = ACCUMULATORS if flags & _IN_ACCUMULATORS else SCRATCHPAD
        n = _note(out, n, memory, second, tile, 0, 0)
    if by_column or (by_row and (not reduces or flags & _ACCUMULATE)):
        n = _note(out, n, ACCUMULATORS, third, length, 0, 0)
    if function != _COPY:
        n = _note(out, n, ACCUMULATORS, place, tile, 0, 0)
    n = _note(out, n, ACCUMULATORS, place, tile, 1, 0)
    if reduces:
        n = _note(out, n, ACCUMULATORS, third, length, 1, 0)
    return n


@njit(cache=True, nogil=True)
def view_columns(c: Any) -> int:
    """Columns of the tile that ``c`` has in its view; 0 where it names none."""
    opcode, flags = int(c.opcode), int(c.flags)
    if opcode in (_LOAD, _STORE) or (opcode == _TRANSFER and c.operand != _NONE):
        return int(c.columns)
    if not flags & _RESIDENT:
        return 0
    if opcode == _MATMUL:
        return int(c.depth)
    if opcode == _CONV1D:
        return (int(c.columns) - 1) * int(c.value) + int(c.depth)
    return int(c.columns) if opcode == _VECTOR else 0


@njit(cache=True, nogil=True)
def tile_runs(
    view: Any, group: int, row: int, column: int, rows: int, columns: int, runs: Any
) -> int:
    """Fill ``runs``, int64 [rows x columns or more, 3], with a tile's runs; how many.

    Runs go along the innermost loop, of rows or of columns, that has the smaller stride.
    """
    across = abs(view.row_stride[2]) > abs(view.column_stride[2]) or view.row_extent[2] == 1
    across = across and view.column_extent[2] > 1
    extents, strides = view.row_extent, view.row_stride
    outer_extents, outer_strides = view.column_extent, view.column_stride
    first, count, outer_first, outer_count = row, rows, column, columns
    if across:
        extents, strides = view.column_extent, view.column_stride
        outer_extents, outer_strides = view.row_extent, view.row_stride
        first, count, outer_first, outer_count = column, columns, row, rows
    n, stride, extent = 0, strides[2], extents[2]
    for outer in range(outer_first, outer_first + outer_count):
        base = view.offset + group * view.group_stride
        rest = outer
        for loop in range(2, -1, -1):
            base += rest % outer_extents[loop] * outer_strides[loop]
            rest //= outer_extents[loop]
        at = first
        while at < first + count:
            inner, rest = at % extent, at // extent
            steps = min(extent - inner, first + count - at)
            start = base + inner * stride + rest % extents[1] * strides[1]
            start += rest // extents[1] * strides[0]
            at += steps
            if view.padded:
                n = _unpadded(view, start, steps, stride, runs, n)
            elif n and stride == 1 and runs[n - 1, 0] + runs[n - 1, 1] == start:
                runs[n - 1, 1] += steps
            else:
                runs[n, 0], runs[n, 1], runs[n, 2] = start, steps, stride
                n += 1
    return n


@njit(cache=True, nogil=True)
def _unpadded(view: Any, start: int, steps: int, stride: int, runs: Any, n: int) -> int:
    """Add what a run of padded addresses has inside the padding, line by line."""
    width = view.padded_width
    while steps > 0:
        line, x = divmod(start, width)
        plane, y = divmod(line, view.padded_height)
        x -= view.left
        y -= view.top
        if stride > 0:
            here = (width - 1 - x - view.left) // stride + 1
        elif stride < 0:
            here = (x + view.left) // -stride + 1
        else:
            here = steps
        here = min(here, steps)
        low, high = 0, here
        if stride > 0:
            low = max(0, -(x // stride))
            high = min(here, (view.width - 1 - x) // stride + 1)
        elif stride < 0:
            low = max(0, -((view.width - 1 - x) // -stride))
            high = min(here, x // -stride + 1)
        elif x < 0 or x >= view.width:
            high = 0
        if 0 <= y < view.height and low < high:
            runs[n, 0] = (plane * view.height + y) * view.width + x + low * stride
            runs[n, 1], runs[n, 2] = high - low, stride
            n += 1
        start += here * stride
        steps -= here
    return n
