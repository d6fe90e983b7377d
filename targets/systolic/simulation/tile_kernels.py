"""Tile products: matrix products and lines of 1-D convolutions on dense column-major tiles.

Every tile is [rows, columns] with value (r, c) at its start + c x rows + r, so that the
innermost loop runs along rows in memory order and vectorises. ``product`` takes eight
columns of the input tile at once, which lets a sum stay in a register for eight
multiplications, and at most ``_BLOCK_ROWS`` rows at a time, which keeps those in the
first-level cache. Integer sums wrap modulo 2**32.

Floats may be contracted to fused multiply-adds; nothing else is reordered within a sum of
eight, and sums grow in the order of the depth.
"""

from __future__ import annotations

from typing import Any

from motet.targets.systolic.simulation.compiled import arithmetic, kernel

_BLOCK_ROWS = 1024


@arithmetic
def _add_eight(sums: Any, at: int, rows: int, left: Any, start: int, pitch: int, w: Any) -> None:
    """sums[at + r] += sum over k < 8 of left[start + k x pitch + r] x w[k]."""
    x0 = left[start : start + rows]
    x1 = left[start + pitch : start + pitch + rows]
    x2 = left[start + 2 * pitch : start + 2 * pitch + rows]
    x3 = left[start + 3 * pitch : start + 3 * pitch + rows]
    x4 = left[start + 4 * pitch : start + 4 * pitch + rows]
    x5 = left[start + 5 * pitch : start + 5 * pitch + rows]
    x6 = left[start + 6 * pitch : start + 6 * pitch + rows]
    x7 = left[start + 7 * pitch : start + 7 * pitch + rows]
    w0, w1, w2, w3, w4, w5, w6, w7 = w
    out = sums[at : at + rows]
    for r in range(rows):
        first = x0[r] * w0 + x1[r] * w1 + x2[r] * w2 + x3[r] * w3
        out[r] += first + x4[r] * w4 + x5[r] * w5 + x6[r] * w6 + x7[r] * w7


@arithmetic
def add_scaled(sums: Any, at: int, left: Any, start: int, rows: int, factor: Any) -> None:
    """sums[at + r] += left[start + r] x factor, for r < rows."""
    out, values = sums[at : at + rows], left[start : start + rows]
    for r in range(rows):
        out[r] += values[r] * factor


@kernel
def product(
    sums: Any, at: int, left: Any, start: int, right: Any, weights: int, shape: tuple[int, int, int]
) -> None:
    """Add left [rows, depth] x right [depth, columns] to the tile of sums [rows, columns].

    ``at``, ``start``, ``weights``: where the three tiles start; shape: rows, depth, columns.
    """
    rows, depth, columns = shape
    whole = depth // 8 * 8
    for first in range(0, rows, _BLOCK_ROWS):
        count = min(_BLOCK_ROWS, rows - first)
        for k in range(0, whole, 8):
            for c in range(columns):
                j = weights + c * depth + k
                w = (right[j], right[j + 1], right[j + 2], right[j + 3])
                v = (right[j + 4], right[j + 5], right[j + 6], right[j + 7])
                here = start + k * rows + first
                _add_eight(sums, at + c * rows + first, count, left, here, rows, w + v)
        for k in range(whole, depth):
            for c in range(columns):
                factor = right[weights + c * depth + k]
                here = start + k * rows + first
                add_scaled(sums, at + c * rows + first, left, here, count, factor)


@arithmetic
def _add_products(
    sums: Any, at: int, left: Any, start: int, right: Any, weights: int, rows: int
) -> None:
    out, x = sums[at : at + rows], left[start : start + rows]
    w = right[weights : weights + rows]
    for r in range(rows):
        out[r] += x[r] * w[r]


@kernel
def convolve_lines(
    sums: Any,
    at: int,
    left: Any,
    start: int,
    right: Any,
    weights: int,
    shape: tuple[int, int, int],
    stride: int,
) -> None:
    """Add 1-D convolutions: sums(r, x) += over t of left(r, x stride + t) x right(r, t).

    Tiles: left [rows, (columns - 1) stride + taps], right [rows, taps], sums [rows, columns];
    shape: rows, taps, columns.
    """
    rows, taps, columns = shape
    for x in range(columns):
        for t in range(taps):
            here = start + (x * stride + t) * rows
            _add_products(sums, at + x * rows, left, here, right, weights + t * rows, rows)
