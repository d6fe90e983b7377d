"""Which parts of a tensor a tile of a view touches, as boxes of buckets.

A tensor is seen as *sheets* (channels, batches) of its last two axes. A tile's footprint
is enclosed in a box [sheets) x [positions in a sheet), and boxes are kept in at most
``BUCKETS`` x ``BUCKETS`` buckets per tensor. A box may be larger than the tile, never smaller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from motet.targets.systolic.instructions.program import Tensor

BUCKETS = 32

GRID = np.dtype(
    [
        ("elements", "<i8"),
        ("sheet", "<i8"),
        ("sheets_per_bucket", "<i8"),
        ("positions_per_bucket", "<i8"),
        ("across", "<i8"),
        ("first", "<i8"),
    ]
)
"""The buckets of one tensor: ``across`` buckets of positions in a row of them, from ``first``."""


def grids_of(tensors: Sequence[Tensor]) -> tuple[NDArray[Any], int]:
    """The grids of ``tensors``, and how many buckets there are in all."""
    grids, first = np.zeros(len(tensors), GRID), 0
    for number, tensor in enumerate(tensors):
        sheet = max(1, math.prod(tensor.shape[-2:]))
        sheets = max(1, tensor.elements // sheet)
        per_bucket, positions = -(-sheets // BUCKETS), -(-sheet // BUCKETS)
        across = -(-sheet // positions)
        grids[number] = (tensor.elements, sheet, per_bucket, positions, across, first)
        first += across * -(-sheets // per_bucket)
    return grids, first


@njit(cache=True, nogil=True)
def bucket_box(  # type: ignore[no-untyped-def]
    views, grids, operand, group, row, column, rows, columns, box
):
    """Fill ``box`` with the buckets [low, high) of sheets and positions that a tile touches."""
    view = views[operand]
    grid = grids[view.tensor]
    whole = view.padded_height * view.padded_width
    low, high = view.offset + group * view.group_stride, view.offset + group * view.group_stride
    # (sheet, position) bounds, kept apart while strides allow it.
    sheet_low, sheet_high = low // whole, low // whole
    low -= sheet_low * whole
    high = low
    for part in range(2):
        first = row if part == 0 else column
        last = first + (rows if part == 0 else columns) - 1
        spans = False
        inner = 1
        for i in range(3):
            inner *= view.row_extent[i] if part == 0 else view.column_extent[i]
        for i in range(3):
            extent = view.row_extent[i] if part == 0 else view.column_extent[i]
            stride = view.row_stride[i] if part == 0 else view.column_stride[i]
            inner //= extent
            begin, end = (first // inner) % extent, (last // inner) % extent
            if spans:
                begin, end = 0, extent - 1
            elif first // inner != last // inner:
                spans = True
            least, most = min(begin * stride, end * stride), max(begin * stride, end * stride)
            if stride % whole == 0:
                sheet_low += least // whole
                sheet_high += most // whole
            else:
                low += least
                high += most
    sheet_low, sheet_high = sheet_low + low // whole, sheet_high + high // whole
    if low // whole != high // whole:  # runs on from one sheet into the next
        low, high = 0, whole - 1
    low, high = low % whole, high % whole
    _into_buckets(view, grid, whole, sheet_low, sheet_high, low, high, box)


@njit(cache=True, nogil=True)
def _into_buckets(  # type: ignore[no-untyped-def]
    view, grid, whole, sheet_low, sheet_high, low, high, box
):
    """Bounds in the padded view to buckets of the tensor."""
    if view.padded == 1:
        y_low = max(low // view.padded_width - view.top, 0)
        y_high = min(high // view.padded_width - view.top, view.height - 1)
        low, high = y_low * view.width, max(y_high, 0) * view.width + view.width - 1
    sheet = view.height * view.width
    if sheet != grid.sheet:  # another shape than the tensor's: by linear address
        first, last = sheet_low * sheet + low, sheet_high * sheet + high
        if sheet_low != sheet_high:
            first, last = sheet_low * sheet, (sheet_high + 1) * sheet - 1
        first, last = max(first, 0), min(last, grid.elements - 1)
        sheet_low, sheet_high = first // grid.sheet, last // grid.sheet
        low, high = first % grid.sheet, last % grid.sheet
        if sheet_low != sheet_high:
            low, high = 0, grid.sheet - 1
    box[0] = sheet_low // grid.sheets_per_bucket
    box[1] = sheet_high // grid.sheets_per_bucket + 1
    box[2] = low // grid.positions_per_bucket
    box[3] = high // grid.positions_per_bucket + 1
