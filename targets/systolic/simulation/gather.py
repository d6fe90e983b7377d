"""Tiles of views: where a tile's column lies in its tensor, and moving values either way.

``place_column`` cuts one column of a tile into *segments* that lie in the tensor at a
constant stride, or all in padding: [first row in the tile, count, first address in the
tensor or -1, stride]. Moving a segment is then a plain loop. A column has at most as many
segments as rows. The addresses are those of ``instructions.footprint.value_address``.
"""

from __future__ import annotations

from typing import Any

from motet.targets.systolic.simulation.compiled import kernel
from motet.targets.systolic.simulation.scalars import word


@kernel
def place_column(view: Any, group: int, row: int, column: int, rows: int, segments: Any) -> int:
    """Fill ``segments`` (int64 [>= rows, 4]) for rows [row, row + rows) of one column.

    ``view`` is a record of ``program.VIEW``; returns how many segments there are.
    """
    address = view.offset + group * view.group_stride
    for loop in range(2, -1, -1):
        extent = view.column_extent[loop]
        address += column % extent * view.column_stride[loop]
        column //= extent
    inner, middle = view.row_extent[2], view.row_extent[1]
    first, rest = row % inner, row // inner
    second, third = rest % middle, rest // middle
    done, count = 0, 0
    while done < rows:
        run = min(inner - first, rows - done)
        start = address + first * view.row_stride[2]
        start += second * view.row_stride[1] + third * view.row_stride[0]
        if view.padded:
            count = _place_padded(view, start, view.row_stride[2], done, run, segments, count)
        else:
            count = _append(segments, count, done, run, start, view.row_stride[2])
        done += run
        first = 0
        second += 1
        if second == middle:
            second = 0
            third += 1
    return count


@kernel
def _append(segments: Any, count: int, row: int, rows: int, address: int, stride: int) -> int:
    if rows == 0:
        return count
    segments[count, 0], segments[count, 1] = row, rows
    segments[count, 2], segments[count, 3] = address, stride
    return count + 1


@kernel
def _place_padded(
    view: Any, address: int, stride: int, row: int, rows: int, segments: Any, count: int
) -> int:
    """Segments of ``rows`` values from ``address`` of the padded tensor on, ``stride`` apart."""
    while rows > 0:
        line, x = divmod(address, view.padded_width)
        plane, y = divmod(line, view.padded_height)
        here = min(rows, _steps(x, 0, view.padded_width, stride))
        begin, end = here, here
        if view.top <= y < view.top + view.height:
            begin, end = _inside(x - view.left, view.width, stride, here)
        held = (plane * view.height + y - view.top) * view.width + x - view.left
        count = _append(segments, count, row, begin, -1, 0)
        count = _append(segments, count, row + begin, end - begin, held + begin * stride, stride)
        count = _append(segments, count, row + end, here - end, -1, 0)
        row += here
        rows -= here
        address += here * stride
    return count


@kernel
def _steps(x: int, low: int, high: int, stride: int) -> int:
    """How many of x, x + stride, ... lie in [low, high) before the first that does not."""
    if stride > 0:
        return high - x if stride == 1 else (high - 1 - x) // stride + 1
    if stride < 0:
        return (x - low) // -stride + 1
    return 1 << 62


@kernel
def _inside(x: int, width: int, stride: int, count: int) -> tuple[int, int]:
    """[begin, end) of those i < count with 0 <= x + i x stride < width; else (count, count)."""
    begin = 0
    if x < 0:
        if stride <= 0:
            return count, count
        begin = -x if stride == 1 else (-x + stride - 1) // stride
    elif x >= width:
        if stride >= 0:
            return count, count
        begin = (x - width - stride) // -stride
    if begin >= count:
        return count, count
    first = x + begin * stride
    if first < 0 or first >= width:
        return count, count
    return begin, min(count, begin + _steps(first, 0, width, stride))


@kernel
def read_tile(
    target: Any,
    source: Any,
    view: Any,
    corner: tuple[int, int, int],
    shape: tuple[int, int],
    padding: Any,
    is_bf16: bool,
    segments: Any,
) -> None:
    """Gather tile [rows, columns] of a view at ``corner`` (group, row, column) to ``target``.

    ``source`` starts with the view's tensor; ``padding`` is what padding reads as.
    ``is_bf16``: round what is read to bf16.
    """
    rows, columns = shape
    group, row, column = corner
    for c in range(columns):
        count = place_column(view, group, row, column + c, rows, segments)
        for i in range(count):
            to, size = c * rows + segments[i, 0], segments[i, 1]
            address, stride = segments[i, 2], segments[i, 3]
            out = target[to : to + size]
            if address < 0:
                out[:] = padding
            elif stride == 1:
                values = source[address : address + size]
                for j in range(size):
                    out[j] = word(values[j], is_bf16)
            else:
                for j in range(size):
                    out[j] = word(source[address + j * stride], is_bf16)


@kernel
def write_tile(
    target: Any,
    source: Any,
    view: Any,
    corner: tuple[int, int, int],
    shape: tuple[int, int],
    limits: tuple[Any, Any],
    is_bf16: bool,
    segments: Any,
) -> None:
    """Scatter tile [rows, columns] in ``source`` into a view at ``corner``, within ``limits``.

    ``target`` starts with the view's tensor; what falls on padding is dropped. Values are
    clamped to [low, high]; a NaN stays one. ``is_bf16``: round what is written to bf16.
    """
    rows, columns = shape
    group, row, column = corner
    low, high = limits
    for c in range(columns):
        count = place_column(view, group, row, column + c, rows, segments)
        for i in range(count):
            start, size = c * rows + segments[i, 0], segments[i, 1]
            address, stride = segments[i, 2], segments[i, 3]
            if address < 0:
                continue
            values = source[start : start + size]
            for j in range(size):
                value = values[j]
                if value < low:
                    value = low
                if value > high:
                    value = high
                target[address + j * stride] = word(value, is_bf16)
