"""Cells of memories and of tensors in DRAM: who wrote and read them last, and who comes too early.

Memories are cut into cells at every address where some access begins or ends, so that an
access is exactly a range of cells, or through a view a few of them (``view_tiles``); tensors
in DRAM likewise. A cell of a memory remembers its last writer, and per engine of its pod
the last reader since (only a pod's own engines read its memories): ``uses``, int32 [cells,
ENGINES + 1], holds 1 + the instruction, 0 for none. Tensors in DRAM are written once, so that
their cells only remember the writer: ``writers``, int32 [cells], likewise. A word of a resident
tensor that is read as such was last written as such: two tensors, of one model or of several in one
program, may have the same words only one after the other, and what is read as a tile was no
tensor's.

``clock`` [queues] and ``owner`` [instructions] are ``ordering``'s: an instruction is known to be
complete where its number is below the clock of its queue. ``at`` gets (other instruction, cell)
of what is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from motet.targets.systolic.instructions.accesses import (
    MAX_ACCESSES,
    SCRATCHPAD,
    tile_accesses,
)
from motet.targets.systolic.instructions.isa import ENGINES, NO_OPERAND, Opcode

FINE, RACE, UNWRITTEN, TWICE, VALUE_RACE, VALUE_UNWRITTEN, VALUE_TWICE, STUCK, FOREIGN = range(9)
"""What is found; those named VALUE of tensors in DRAM. STUCK: ``ordering``'s alone."""

WRITER = ENGINES
"""Column of ``uses`` that has the last writer."""

_TRANSFER, _NONE = int(Opcode.TRANSFER), NO_OPERAND


@njit(cache=True, nogil=True)
def cells_of(code: Any, words: Any, resident: Any) -> tuple[Any, Any]:
    """The cell of every word of scratchpads and of accumulators: int32 [words + 1] each.

    words: capacities of the largest. resident: int64 [intervals, 2] of words in scratchpads.
    """
    pads, sums = np.zeros(words[0] + 2, np.uint8), np.zeros(words[1] + 2, np.uint8)
    out = np.empty((MAX_ACCESSES, 5), np.int64)
    for i in range(len(code)):
        for k in range(tile_accesses(code[i], out)):
            if out[k, 0] == SCRATCHPAD:
                pads[out[k, 1]] = 1
                pads[out[k, 2]] = 1
            else:
                sums[out[k, 1]] = 1
                sums[out[k, 2]] = 1
    for k in range(len(resident)):
        pads[resident[k, 0]] = 1
        pads[resident[k, 1]] = 1
    return np.cumsum(pads).astype(np.int32), np.cumsum(sums).astype(np.int32)


@njit(cache=True, nogil=True)
def read(
    uses: Any, first: int, last: int, engine: int, i: int, clock: Any, owner: Any, at: Any
) -> int:
    """Instruction ``i`` reads cells [first, last) of ``uses`` [cells, ENGINES + 1]."""
    known = -2
    for cell in range(first, last):
        writer = uses[cell, WRITER] - 1
        if writer != known:
            if writer < 0 or writer >= clock[owner[writer]]:
                at[0], at[1] = writer, cell
                return UNWRITTEN if writer < 0 else RACE
            known = writer
        uses[cell, engine] = i + 1
    return FINE


@njit(cache=True, nogil=True)
def write(uses: Any, first: int, last: int, i: int, clock: Any, owner: Any, at: Any) -> int:
    """Instruction ``i`` writes cells [first, last)."""
    known = np.full(ENGINES + 1, -1, np.int64)
    for cell in range(first, last):
        for user in range(ENGINES + 1):
            other = uses[cell, user] - 1
            if other < 0 or other == known[user]:
                continue
            if other >= clock[owner[other]] or (user == WRITER and other == i):
                at[0], at[1] = other, cell
                return TWICE if other == i else RACE
            known[user] = other
        uses[cell, :ENGINES] = 0
        uses[cell, WRITER] = i + 1
    return FINE


@njit(cache=True, nogil=True)
def read_as(
    uses: Any, first: int, last: int, tensor: int, code: Any, views: Any, kept: Any, at: Any
) -> int:
    """Whether cells [first, last), which are written, hold ``tensor``; -1: what is no tensor's.

    kept: uint8 [tensors], ``cell_accesses.tensors_kept``. A dense tile that a LOAD put there may be
    read through the view of a tensor that is not kept: that is how pooling stages its windows.
    """
    known = -1
    for cell in range(first, last):
        writer = uses[cell, WRITER] - 1
        if writer != known:
            w = code[writer]
            held = -1
            if w.opcode == _TRANSFER and w.operand != _NONE:
                held = views[w.operand].tensor
            is_staged = held < 0 and tensor >= 0 and not kept[tensor]
            if held != tensor and not is_staged:
                at[0], at[1] = writer, cell
                return FOREIGN
            known = writer
    return FINE


@njit(cache=True, nogil=True)
def read_values(writers: Any, first: int, last: int, clock: Any, owner: Any, at: Any) -> int:
    """An instruction reads cells [first, last) of tensors in DRAM."""
    known = -2
    for cell in range(first, last):
        writer = writers[cell] - 1
        if writer != known:
            if writer < 0 or writer >= clock[owner[writer]]:
                at[0], at[1] = writer, cell
                return VALUE_UNWRITTEN if writer < 0 else VALUE_RACE
            known = writer
    return FINE


@njit(cache=True, nogil=True)
def write_values(writers: Any, first: int, last: int, i: int, at: Any) -> int:
    """Instruction ``i`` writes cells [first, last) of tensors in DRAM."""
    for cell in range(first, last):
        if writers[cell]:
            at[0], at[1] = writers[cell] - 1, cell
            return VALUE_TWICE
        writers[cell] = i + 1
    return FINE
