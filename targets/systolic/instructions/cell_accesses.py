"""What one instruction does to the cells of memories and tensors (``cells``): all its accesses.

What is called for every range of cells takes few arrays: numba counts the references to each
argument at every call, which for all that a program has takes longer than looking at the cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from motet.targets.systolic.instructions.accesses import (
    HIGH,
    LOW,
    MEMORY,
    ON_TARGETS,
    SCRATCHPAD,
    WRITES,
    tile_accesses,
)
from motet.targets.systolic.instructions.cells import (
    FINE,
    TWICE,
    VALUE_TWICE,
    read,
    read_as,
    read_values,
    write,
    write_values,
)
from motet.targets.systolic.instructions.isa import NO_OPERAND, Opcode

_LOAD, _STORE, _TRANSFER = int(Opcode.LOAD), int(Opcode.STORE), int(Opcode.TRANSFER)
_VECTOR, _NONE = int(Opcode.VECTOR), NO_OPERAND


@njit(cache=True, nogil=True)
def tensors_kept(code: Any, views: Any) -> Any:
    """Of every tensor that a view names: whether something is written through one; uint8."""
    made = np.zeros(np.int64(views["tensor"].max()) + 1, np.uint8)
    for i in range(len(code)):
        if code[i].opcode == _TRANSFER and code[i].operand != _NONE:
            made[views[code[i].operand].tensor] = 1
    return made


@njit(cache=True, nogil=True)
def access(
    i: int, code: Any, views: Any, tiles: Any, memories: Any, clock: Any, owner: Any, out: Any,
    at: Any,
) -> int:  # fmt: skip
    """All accesses of one instruction, reads first; ``at`` gets (other, place, pod, memory).

    memories: those of ``ordering.execute``, then ``tensors_kept``. out: int64 [MAX_ACCESSES, 5],
    for work.
    """
    c = code[i]
    engine = 3
    if c.opcode == _LOAD:
        engine = 0
    elif c.opcode != _STORE and c.opcode != _TRANSFER:
        engine = 1 if c.opcode < _VECTOR else 2
    writes_view = c.opcode == _STORE or c.opcode == _TRANSFER
    found = FINE
    if not writes_view:
        found = _through_view(i, code, views, tiles, memories, clock, owner, engine, at)
    if found == FINE:
        found = _tiles(i, code, views, memories, clock, owner, engine, out, at)
    if found == FINE and writes_view:
        found = _through_view(i, code, views, tiles, memories, clock, owner, engine, at)
    return found


@njit(cache=True, nogil=True)
def _tiles(
    i: int, code: Any, views: Any, memories: Any, clock: Any, owner: Any, engine: int, out: Any,
    at: Any,
) -> int:  # fmt: skip
    """All tiles that one instruction reads and writes (``tile_accesses``)."""
    c = code[i]
    pads, sums, pad_cells, sum_cells, _, kept = memories
    found = FINE
    for k in range(tile_accesses(c, out)):
        first_pod, pods = int(c.pod), 1
        if out[k, ON_TARGETS]:
            first_pod, pods = int(c.target_pod), int(c.target_pods)
        for pod in range(first_pod, first_pod + pods):
            at[2], at[3] = pod, out[k, MEMORY]
            in_pad = out[k, MEMORY] == SCRATCHPAD
            uses, cells = (pads, pad_cells) if in_pad else (sums, sum_cells)
            first, last = cells[out[k, LOW]], cells[out[k, HIGH]]
            if out[k, WRITES]:
                found = write(uses[pod], first, last, i, clock, owner, at)
            else:
                found = read(uses[pod], first, last, engine, i, clock, owner, at)
                if found == FINE and in_pad:
                    found = read_as(uses[pod], first, last, -1, code, views, kept, at)
            if found != FINE:
                return found
    return found


@njit(cache=True, nogil=True)
def _through_view(
    i: int, code: Any, views: Any, tiles: Any, memories: Any, clock: Any, owner: Any, engine: int,
    at: Any,
) -> int:  # fmt: skip
    """The tile of a view that one instruction reads, or with a STORE or TRANSFER writes."""
    c = code[i]
    tile_of, starts, ranges, repeats = tiles
    tile = tile_of[i]
    if tile < 0:
        return FINE
    pads, writers, kept = memories[0], memories[4], memories[5]
    writes = c.opcode == _STORE or c.opcode == _TRANSFER
    resident = views[c.operand].resident >= 0
    if writes and repeats[tile]:
        at[0], at[1], at[2], at[3] = i, ranges[starts[tile], 0], int(c.target_pod), SCRATCHPAD
        return TWICE if resident else VALUE_TWICE
    cells = ranges[starts[tile] : starts[tile + 1]]
    if resident:
        return _resident(i, code, views, cells, pads, kept, clock, owner, engine, at)
    return _in_dram(i, cells, writes, writers, clock, owner, at)


@njit(cache=True, nogil=True)
def _resident(
    i: int, code: Any, views: Any, cells: Any, pads: Any, kept: Any, clock: Any, owner: Any,
    engine: int, at: Any,
) -> int:  # fmt: skip
    """Ranges of cells of a resident tensor, int64 [ranges, 2], through its view."""
    c = code[i]
    writes = c.opcode == _STORE or c.opcode == _TRANSFER
    first_pod, pods = int(c.pod), 1
    if c.opcode == _TRANSFER:
        first_pod, pods = int(c.target_pod), int(c.target_pods)
    tensor, found = views[c.operand].tensor, FINE
    for r in range(len(cells)):
        first, last = cells[r, 0], cells[r, 1]
        for pod in range(first_pod, first_pod + pods):
            at[2], at[3] = pod, SCRATCHPAD
            if writes:
                found = write(pads[pod], first, last, i, clock, owner, at)
            else:
                found = read(pads[pod], first, last, engine, i, clock, owner, at)
                if found == FINE:
                    found = read_as(pads[pod], first, last, tensor, code, views, kept, at)
            if found != FINE:
                return found
    return found


@njit(cache=True, nogil=True)
def _in_dram(
    i: int, cells: Any, writes: bool, writers: Any, clock: Any, owner: Any, at: Any
) -> int:
    """Ranges of cells of a tensor in DRAM, int64 [ranges, 2]."""
    found = FINE
    for r in range(len(cells)):
        if writes:
            found = write_values(writers, cells[r, 0], cells[r, 1], i, at)
        else:
            found = read_values(writers, cells[r, 0], cells[r, 1], clock, owner, at)
        if found != FINE:
            return found
    return found
