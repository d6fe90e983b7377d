"""Cycles of matrix products on an R x C systolic array, in closed form.

Two models, both counting from the first stationary row captured to the last
output registered:

* ``scalesim``: folds x cycles per fold, folds one after the other; equal to
  SCALE-Sim 3.0.0's compute cycles (its printed total is one less).

  ================= ===================== =================
  dataflow          folds                 cycles per fold
  ================= ===================== =================
  output-stationary ceil(M/R) ceil(N/C)   R + C + K - 2
  weight-stationary ceil(K/R) ceil(N/C)   2R + C + M - 2
  input-stationary  ceil(K/R) ceil(M/C)   2R + C + N - 2
  ================= ===================== =================

* ``double-buffered``: weight-stationary, the next tile's weights are captured
  while the present tile streams: R + sum_{k<F} max(T_k, R) + T_F + (R + C - 2)
  for tiles k = 1..F of T_k streamed rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat

DATAFLOWS = ("weight-stationary", "output-stationary", "input-stationary")
MODES = ("scalesim", "double-buffered")


def ws_double_buffered_cycles(tile_rows: Iterable[int], rows: int, columns: int) -> int:
    """Cycles of a sequence of stationary weight tiles; 0 for no tile.

    ``tile_rows`` are T_k, the input rows streamed through tile k, in order; ``rows``
    and ``columns`` are the array's R and C.
    """
    body, last = 0, 0
    for streamed in tile_rows:
        if streamed < 1:
            raise ValueError(f"a tile streams at least one row, not {streamed}")
        body += max(last, rows)
        last = streamed
    return body + last + rows + columns - 2 if last else 0


def gemm_cycles(
    m: int, n: int, k: int, rows: int, columns: int, dataflow: str, mode: str = "scalesim"
) -> int:
    """Cycles of an [m, k] x [k, n] product on a ``rows`` x ``columns`` array.

    ``dataflow`` is one of ``DATAFLOWS``, ``mode`` one of ``MODES``; "double-buffered"
    knows the weight-stationary dataflow only. Anything else raises ``ValueError``.
    """
    if mode == "double-buffered" and dataflow == "weight-stationary":
        folds = _ceil_div(k, rows) * _ceil_div(n, columns)
        return ws_double_buffered_cycles(repeat(m, folds), rows, columns)
    if mode != "scalesim" or dataflow not in DATAFLOWS:
        raise ValueError(f"no closed form for dataflow {dataflow!r} in mode {mode!r}")
    if dataflow == "output-stationary":
        return _ceil_div(m, rows) * _ceil_div(n, columns) * (rows + columns + k - 2)
    if dataflow == "weight-stationary":
        return _ceil_div(k, rows) * _ceil_div(n, columns) * (2 * rows + columns + m - 2)
    return _ceil_div(k, rows) * _ceil_div(m, columns) * (2 * rows + columns + n - 2)


def _ceil_div(value: int, divisor: int) -> int:
    return -(-value // divisor)
