"""How tiles follow each other on one array: the cycles between their starts, per dataflow.

A tile k is captured (its stationary operand shifts in), streams for T_k cycles from s_k on, and
is complete when its last result is registered. For tiles with all operands on chip in time

* its capture takes ``capture_cycles`` and starts no earlier than s_{k-1}, when the shadow
  registers that hold the next stationary operand become free;
* s_k >= s_{k-1} + ``interval``;
* its results are complete at s_k + T_k + ``drain_cycles``.

* weight-stationary: T rows of the input stream through; capture takes R cycles and overlaps the
  tile before, so that F tiles take R + sum_{k<F} max(T_k, R) + T_F + (R + C - 2);
* input-stationary: the same array with the operands exchanged, T columns of the weight;
* output-stationary: T is the depth; nothing is captured. The sums move to registers that shift
  down while the next tile accumulates: R cycles that two tiles do not share, so that their ends
  are R apart. The last sum leaves R - 1 cycles after the bottom row is done;
* spatial-output-stationary: T words enter each array row at its right end, one a cycle, and
  move left; taps go to a whole row at once. Sums leave as in output-stationary.

When the dataflow changes, the array is empty before the next tile is captured or streams.
``closed_form`` has the sums over tiles; the register-level model of ``benchmarks/rtl`` proves
both, tiles with late operands included.
"""

from __future__ import annotations

from numba import njit

from motet.targets.systolic.instructions.isa import Dataflow

_OUTPUT = int(Dataflow.OUTPUT_STATIONARY)
_INPUT = int(Dataflow.INPUT_STATIONARY)
_SPATIAL = int(Dataflow.SPATIAL_OUTPUT_STATIONARY)


@njit(cache=True, nogil=True)
def stream_cycles(dataflow: int, rows: int, columns: int, depth: int, stride: int) -> int:
    """T: cycles that a tile streams: a MATMUL's [rows, depth] x [depth, columns], or a CONV1D's.

    A CONV1D of ``columns`` outputs and ``depth`` taps feeds the line in min(stride, taps) phases,
    each of columns - 1 words that fill the row and a word per tap of the phase.
    """
    if dataflow == _OUTPUT:
        return depth
    if dataflow == _INPUT:
        return columns
    if dataflow == _SPATIAL:
        return min(stride, depth) * (columns - 1) + depth
    return rows


@njit(cache=True, nogil=True)
def capture_cycles(dataflow: int, array_rows: int, array_columns: int) -> int:
    """Cycles in which the stationary operand shifts in before a tile can stream."""
    if dataflow in (_OUTPUT, _SPATIAL):
        return 0
    return array_rows


@njit(cache=True, nogil=True)
def interval(dataflow: int, before: int, streamed: int, array_rows: int, array_columns: int) -> int:
    """Least cycles from the start of a tile that streams ``before`` cycles to the next one's.

    ``streamed``: cycles that the next one streams. Output-stationary results leave through
    shadow registers, R cycles that two tiles do not share: their ends are R cycles apart.
    """
    if dataflow in (_OUTPUT, _SPATIAL):
        return max(before, before + array_rows - streamed)
    return before


@njit(cache=True, nogil=True)
def drain_cycles(dataflow: int, array_rows: int, array_columns: int) -> int:
    """Cycles from a tile's last streamed value to its last result registered."""
    if dataflow == _SPATIAL:
        return 2 * (array_rows - 1)
    skew = array_rows + array_columns - 2
    if dataflow == _OUTPUT:
        return skew + array_rows - 1
    return skew
