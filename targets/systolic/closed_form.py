"""Cycles of matrix products and 1-D convolutions on an R x C systolic array, in closed form.

Mode ``scalesim``: folds x cycles per fold, one fold after the other; equal to SCALE-Sim
3.0.0's compute cycles (its printed total is one less).

================= ===================== =================
dataflow          folds                 cycles per fold
================= ===================== =================
output-stationary ceil(M/R) ceil(N/C)   R + C + K - 2
weight-stationary ceil(K/R) ceil(N/C)   2R + C + M - 2
input-stationary  ceil(K/R) ceil(M/C)   2R + C + N - 2
================= ===================== =================

Mode ``double-buffered``: this project's array, tile after tile, from the first operand that
enters to the last output registered. The register-level model of ``benchmarks/rtl`` proves it.
Weight- and input-stationary tiles capture the next stationary operand (R cycles) while T values
stream through the present one; output-stationary and spatial tiles shift their sums out (R
cycles) while the next tile accumulates. F tiles take

========================= ================================================= =========
dataflow                  cycles                                            T
========================= ================================================= =========
weight-stationary         R + sum_{i<F} max(T_i, R) + T_F + (R + C - 2)     M
input-stationary          the same                                          N
output-stationary         T_1 + sum_{i>1} max(T_i, R) + (R - 1) + (R+C-2)   K
spatial-output-stationary T_1 + sum_{i>1} max(T_i, R) + 2(R - 1)            words
========================= ================================================= =========

where words = min(s, S) (w - 1) + S are what enters each row for w outputs of S taps at
stride s (``spatial_words``); with s <= S it is the whole window, (w - 1) s + S.

Mode ``fuseconv``: Ganesan & Kumar, arXiv 2105.13434, section 5: output-stationary folds of r x
c outputs, T + r + c - 1 cycles each, the last ones with the rows and columns that remain.

``gemm_cycles_array`` is ``gemm_cycles`` for arrays of sizes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

DATAFLOWS = ("weight-stationary", "output-stationary", "input-stationary")
MODES = ("scalesim", "double-buffered", "fuseconv")


def gemm_cycles(
    m: int, n: int, k: int, rows: int, columns: int, dataflow: str, mode: str = "scalesim"
) -> int:
    """Cycles of an [m, k] x [k, n] product on a ``rows`` x ``columns`` array.

    ``dataflow`` is one of ``DATAFLOWS``, ``mode`` one of ``MODES``; "fuseconv" knows the
    output-stationary dataflow only. Anything else raises ``ValueError``.
    """
    return int(_gemm(m, n, k, rows, columns, dataflow, mode))


def gemm_cycles_array(
    m: ArrayLike,
    n: ArrayLike,
    k: ArrayLike,
    rows: ArrayLike,
    columns: ArrayLike,
    dataflow: str,
    mode: str = "scalesim",
) -> NDArray[np.int64]:
    """``gemm_cycles`` of arrays of sizes, which broadcast against each other; int64."""
    m, n, k, rows, columns = (np.asarray(size, np.int64) for size in (m, n, k, rows, columns))
    return np.asarray(_gemm(m, n, k, rows, columns, dataflow, mode), np.int64)


def ws_double_buffered_cycles(tile_rows: Iterable[int], rows: int, columns: int) -> int:
    """Cycles of a sequence of stationary tiles (weights or inputs); 0 for no tile.

    ``tile_rows`` are T_i, the rows streamed through tile i, in order; ``rows`` and ``columns``
    are the array's R and C.
    """
    body, last = 0, 0
    for streamed in tile_rows:
        if streamed < 1:
            raise ValueError(f"a tile streams at least one row, not {streamed}")
        body += max(last, rows)
        last = streamed
    return body + last + rows + columns - 2 if last else 0


def os_double_buffered_cycles(tile_depths: Iterable[int], rows: int, columns: int) -> int:
    """Cycles of a sequence of output-stationary tiles that each sum T_i products; 0 for none."""
    return _outputs_shifted(tile_depths, rows, (rows - 1) + (rows + columns - 2))


def spatial_double_buffered_cycles(tile_words: Iterable[int], rows: int) -> int:
    """Cycles of a sequence of spatial tiles with ``spatial_words`` T_i each; 0 for none."""
    return _outputs_shifted(tile_words, rows, 2 * (rows - 1))


def spatial_words(outputs: int, taps: int, stride: int) -> int:
    """Words that enter each array row, one a cycle, for ``outputs`` values of a 1-D convolution.

    The line is fed in min(stride, taps) phases x_p[i] = x[i stride + p]: ``outputs - 1`` words
    fill the row, then each word is multiplied with one of the phase's taps.
    """
    return min(stride, taps) * (outputs - 1) + taps


def conv1d_cycles(lines: int, outputs: int, taps: int, stride: int, rows: int, columns: int) -> int:
    """Double-buffered cycles of ``lines`` 1-D convolutions of ``outputs`` values each.

    Tiles of ``rows`` lines x ``columns`` outputs, the last ones with what remains; a line's
    tiles follow each other.
    """
    full, rest = divmod(outputs, columns)
    widths = [columns] * full + [rest] * (rest > 0)
    words = [spatial_words(width, taps, stride) for width in widths]
    return spatial_double_buffered_cycles(words * _ceil_div(lines, rows), rows)


def fuseconv_gemm_cycles(m: int, n: int, k: int, rows: int, columns: int) -> int:
    """FuSeConv's cycles of an [m, k] x [k, n] product: sum over folds of k + r + c - 1."""
    return int(_fuseconv_gemm(m, n, k, rows, columns))


def fuseconv_depthwise_cycles(
    positions: int, channels: int, taps: int, rows: int, columns: int
) -> int:
    """A depthwise convolution on the plain array: a product of one column per channel.

    positions: outputs of a channel, of the whole batch. taps: of a filter, kernel h x w.
    """
    return channels * fuseconv_gemm_cycles(positions, 1, taps, rows, columns)


def fuseconv_1d_cycles(
    lines: int, width: int, taps: int, stride: int, rows: int, columns: int
) -> int:
    """FuSeConv's cycles of 1-D depthwise convolutions under its spatially tiled dataflow.

    ceil(ceil(N H C / X) / stride x (Y + S) x ceil(W / Y)) on X = ``rows``, Y = ``columns``.

    lines: N H C; H without padding. width: W, padded along the filter. taps: S.
    """
    return int(
        _ceil_div(_ceil_div(lines, rows) * (columns + taps) * _ceil_div(width, columns), stride)
    )


def _gemm(m: Any, n: Any, k: Any, rows: Any, columns: Any, dataflow: str, mode: str) -> Any:
    """``gemm_cycles`` of integers or arrays of them."""
    if mode not in MODES or dataflow not in DATAFLOWS:
        raise ValueError(f"no closed form for dataflow {dataflow!r} in mode {mode!r}")
    if mode == "fuseconv":
        if dataflow != "output-stationary":
            raise ValueError(f"mode 'fuseconv' is output-stationary, not {dataflow}")
        return _fuseconv_gemm(m, n, k, rows, columns)
    folds, streamed = _folds(m, n, k, rows, columns, dataflow)
    edge = 0 if dataflow == "output-stationary" else rows
    if mode == "scalesim":
        return folds * (edge + rows + columns + streamed - 2)
    # A fill of R cycles before the first tile, or a drain of R - 1 after the last.
    edge = edge if dataflow != "output-stationary" else rows - 1
    scalar = isinstance(streamed, int) and isinstance(rows, int)
    between = max(streamed, rows) if scalar else np.maximum(streamed, rows)
    return edge + (folds - 1) * between + streamed + rows + columns - 2


def _folds(m: Any, n: Any, k: Any, rows: Any, columns: Any, dataflow: str) -> tuple[Any, Any]:
    """Folds, and what streams through each."""
    if dataflow == "output-stationary":
        return _ceil_div(m, rows) * _ceil_div(n, columns), k
    if dataflow == "weight-stationary":
        return _ceil_div(k, rows) * _ceil_div(n, columns), m
    return _ceil_div(k, rows) * _ceil_div(m, columns), n


def _fuseconv_gemm(m: Any, n: Any, k: Any, rows: Any, columns: Any) -> Any:
    down, across = _ceil_div(m, rows), _ceil_div(n, columns)
    return down * across * (k - 1) + across * m + down * n


def _outputs_shifted(tiles: Iterable[int], rows: int, after: int) -> int:
    """T_1 + sum_{i>1} max(T_i, R) + ``after``; 0 for no tile."""
    total = 0
    for length in tiles:
        if length < 1:
            raise ValueError(f"a tile sums at least one product, not {length}")
        total += max(length, rows) if total else length
    return total + after if total else 0


def _ceil_div(value: Any, divisor: Any) -> Any:
    return -(-value // divisor)
