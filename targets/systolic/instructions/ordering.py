"""Runs a program without values, and proves that no access (``accesses``) comes too early.

The rules are those of ``checker``.

Algorithm. Semaphores only count up and each is signalled by one queue alone, so the n-th
SIGNAL of a queue is what a WAIT for n waits for: the order that a program has is a fixed
directed graph, and any order of execution that respects it finds the same races. Queues
run one after another as far as their WAITs let them. ``clocks`` [queue, queue] says how far
each queue knows every other to be complete (an instruction's number, exclusive); a SIGNAL
that is waited for keeps a copy of its queue's clock until the last of its WAITs has taken
it, a WAIT takes the maximum of it and its own, and is skipped where it knows as much.

Memories are cut into cells at every address where some access begins or ends, so that an
access is exactly a range of cells, or through a view a few of them (``view_tiles``); tensors
in DRAM likewise. A cell of a memory remembers its last writer, and per engine of its pod
the last reader since (only a pod's own engines read its memories). Tensors in DRAM are written
once, so that their cells only remember the writer. A word of a resident tensor that is read as
such was last written as such: two tensors, of one model or of several in one program, may have the
same words only one after the other, and what is read as a tile was no tensor's.

Cost: O(values of the different tiles of views, sorted) + O(cells that accesses touch) + O(waits
that teach something x queues in use) time; memory for the cells of each pod, queues in use
squared, and a clock for each signal that somebody still waits for.
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
"""What ``execute`` found."""

_LOAD, _STORE, _TRANSFER = int(Opcode.LOAD), int(Opcode.STORE), int(Opcode.TRANSFER)
_VECTOR, _NONE = int(Opcode.VECTOR), NO_OPERAND
_SIGNAL, _WAIT = int(Opcode.SIGNAL), int(Opcode.WAIT)
_WRITER = ENGINES


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
def _read(
    uses: Any, first: int, last: int, engine: int, i: int, clock: Any, owner: Any, at: Any
) -> int:
    """Instruction ``i`` reads cells [first, last) of ``uses`` [cells, ENGINES + 1]."""
    known = -2
    for cell in range(first, last):
        writer = uses[cell, _WRITER] - 1
        if writer != known:
            if writer < 0 or writer >= clock[owner[writer]]:
                at[0], at[1] = writer, cell
                return UNWRITTEN if writer < 0 else RACE
            known = writer
        uses[cell, engine] = i + 1
    return FINE


@njit(cache=True, nogil=True)
def _write(uses: Any, first: int, last: int, i: int, clock: Any, owner: Any, at: Any) -> int:
    """Instruction ``i`` writes cells [first, last)."""
    known = np.full(ENGINES + 1, -1, np.int64)
    for cell in range(first, last):
        for user in range(ENGINES + 1):
            other = uses[cell, user] - 1
            if other < 0 or other == known[user]:
                continue
            if other >= clock[owner[other]] or (user == _WRITER and other == i):
                at[0], at[1] = other, cell
                return TWICE if other == i else RACE
            known[user] = other
        uses[cell, :ENGINES] = 0
        uses[cell, _WRITER] = i + 1
    return FINE


@njit(cache=True, nogil=True)
def _read_as(
    uses: Any, first: int, last: int, tensor: int, code: Any, views: Any, kept: Any, at: Any
) -> int:
    """Whether cells [first, last), which are written, hold ``tensor``; -1: what is no tensor's.

    A dense tile that a LOAD put there may be read through the view of a tensor that is not
    ``kept`` (written through a view): that is how pooling stages its windows.
    """
    known = -1
    for cell in range(first, last):
        writer = uses[cell, _WRITER] - 1
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
def _read_values(writers: Any, first: int, last: int, clock: Any, owner: Any, at: Any) -> int:
    """Read cells [first, last) of tensors in DRAM."""
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
def _write_values(writers: Any, first: int, last: int, i: int, at: Any) -> int:
    for cell in range(first, last):
        if writers[cell]:
            at[0], at[1] = writers[cell] - 1, cell
            return VALUE_TWICE
        writers[cell] = i + 1
    return FINE


@njit(cache=True, nogil=True)
def _access(
    i: int, code: Any, views: Any, tiles: Any, memories: Any, clock: Any, owner: Any, out: Any,
    at: Any,
) -> int:  # fmt: skip
    """All accesses of one instruction, reads first; ``at`` gets (other, place, pod, memory)."""
    c = code[i]
    engine = 3
    if c.opcode == _LOAD:
        engine = 0
    elif c.opcode != _STORE and c.opcode != _TRANSFER:
        engine = 1 if c.opcode < _VECTOR else 2
    pads, sums, pad_cells, sum_cells, _, kept = memories
    writes_view = c.opcode == _STORE or c.opcode == _TRANSFER
    found = FINE
    if not writes_view:
        found = _through_view(i, code, views, tiles, memories, clock, owner, engine, at)
    for k in range(tile_accesses(c, out)):
        if found != FINE:
            return found
        first_pod, pods = int(c.pod), 1
        if out[k, 4]:
            first_pod, pods = int(c.target_pod), int(c.target_pods)
        for pod in range(first_pod, first_pod + pods):
            at[2], at[3] = pod, out[k, 0]
            uses, cells = (pads, pad_cells) if out[k, 0] == SCRATCHPAD else (sums, sum_cells)
            first, last = cells[out[k, 1]], cells[out[k, 2]]
            if out[k, 3]:
                found = _write(uses[pod], first, last, i, clock, owner, at)
            else:
                found = _read(uses[pod], first, last, engine, i, clock, owner, at)
                if found == FINE and out[k, 0] == SCRATCHPAD:
                    found = _read_as(uses[pod], first, last, -1, code, views, kept, at)
            if found != FINE:
                return found
    if found == FINE and writes_view:
        found = _through_view(i, code, views, tiles, memories, clock, owner, engine, at)
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
    first_pod, pods = int(c.pod), 1
    if c.opcode == _TRANSFER:
        first_pod, pods = int(c.target_pod), int(c.target_pods)
    found = FINE
    for r in range(starts[tile], starts[tile + 1]):
        first, last = ranges[r, 0], ranges[r, 1]
        if not resident:
            if writes:
                found = _write_values(writers, first, last, i, at)
            else:
                found = _read_values(writers, first, last, clock, owner, at)
            if found != FINE:
                return found
            continue
        for pod in range(first_pod, first_pod + pods):
            at[2], at[3] = pod, SCRATCHPAD
            if writes:
                found = _write(pads[pod], first, last, i, clock, owner, at)
            else:
                found = _read(pads[pod], first, last, engine, i, clock, owner, at)
                if found == FINE:
                    tensor = views[c.operand].tensor
                    found = _read_as(pads[pod], first, last, tensor, code, views, kept, at)
            if found != FINE:
                return found
    return found


@njit(cache=True, nogil=True)
def _kept(code: Any, views: Any) -> Any:
    """Of every tensor that a view names: whether something is written through one."""
    made = np.zeros(np.int64(views["tensor"].max()) + 1, np.uint8)
    for i in range(len(code)):
        if code[i].opcode == _TRANSFER and code[i].operand != _NONE:
            made[views[code[i].operand].tensor] = 1
    return made


@njit(cache=True, nogil=True)
def _awaited(code: Any, starts: Any, used: Any, first_signal: Any) -> Any:
    """How many WAITs each signal has; signals are numbered queue by queue from 0."""
    for q in range(len(starts) - 1):
        count = 0
        for i in range(starts[q], starts[q + 1]):
            count += code[i].opcode == _SIGNAL
        first_signal[q + 1] = first_signal[q] + count
    waits = np.zeros(first_signal[-1] + 1, np.int32)
    for i in range(len(code)):
        c = code[i]
        if c.opcode == _WAIT and c.value:
            waits[first_signal[c.semaphore] + np.int64(c.value) - 1] += 1
    return waits


@njit(cache=True, nogil=True)
def _join(clock: Any, other: Any) -> None:
    """What is known, and what another queue knew."""
    for queue in range(len(clock)):
        if other[queue] > clock[queue]:
            clock[queue] = other[queue]


@njit(cache=True, nogil=True)
def execute(
    code: Any, starts: Any, used: Any, owner: Any, views: Any, tiles: Any, memories: Any,
    position: Any, at: Any,
) -> tuple[int, int]:  # fmt: skip
    """(what was found, the instruction), with more in ``at`` (other, place, pod, memory).

    Parameters
    ----------
    code, starts, views: instructions, ``queue_starts`` and ``view_table`` of the program, whose
        static rules hold.
    used: int64, numbers of the queues with instructions; owner: int32, each instruction's in it.
    tiles: as ``view_tiles`` gives them, but with ranges of cells for intervals.
    memories: int32 [pods, cells, ENGINES + 1] of scratchpads and accumulators, zeros; ``cells_of``
        both; int32 [cells] of tensors in DRAM, zeros, which get 1 + their writer.
    position: int64 [queues], gets where each stands.
    """
    queues = len(used)
    pads, sums, pad_cells, sum_cells, writers = memories
    whole = pads, sums, pad_cells, sum_cells, writers, _kept(code, views)
    first_signal = np.zeros(len(starts), np.int64)
    waits = _awaited(code, starts, used, first_signal)
    place = np.full(len(starts), -1, np.int64)
    clocks = np.zeros((queues, queues), np.int32)
    for u in range(queues):
        place[used[u]] = u
        position[used[u]] = starts[used[u]]
        for v in range(queues):
            clocks[v, u] = starts[used[u]]
    signals = np.zeros(queues, np.int64)
    copies = np.empty((64, queues), np.int32)
    copy_of = np.full(len(waits), -1, np.int32)
    free = np.arange(64)[::-1].copy()
    free_count = 64
    blocked_by = np.full(queues, -1, np.int64)  # the first queue that waits for this one
    next_blocked = np.full(queues, -1, np.int64)
    ready = np.arange(queues)[::-1].copy()
    ready_count = queues
    out = np.empty((MAX_ACCESSES, 5), np.int64)
    while ready_count:
        ready_count -= 1
        u = ready[ready_count]
        q, clock = used[u], clocks[u]
        i, end = position[q], starts[q + 1]
        while i < end:
            c = code[i]
            if c.opcode == _WAIT:
                v = place[c.semaphore]
                value = np.int64(c.value)
                if value == 0:
                    i += 1
                    continue
                if signals[v] < value:
                    next_blocked[u], blocked_by[v] = blocked_by[v], u
                    break
                s = first_signal[c.semaphore] + value - 1
                copy = copy_of[s]
                if clock[v] < copies[copy, v]:
                    _join(clock, copies[copy])
                waits[s] -= 1
                if waits[s] == 0:
                    free[free_count] = copy
                    free_count += 1
            elif c.opcode == _SIGNAL:
                clock[u] = i + 1
                s = first_signal[q] + signals[u]
                signals[u] += 1
                if waits[s]:
                    if free_count == 0:
                        size = len(copies)
                        larger = np.empty((2 * size, queues), np.int32)
                        larger[:size] = copies
                        copies = larger
                        free = np.empty(2 * size, np.int64)
                        free[:size] = np.arange(2 * size - 1, size - 1, -1)
                        free_count = size
                    free_count -= 1
                    copy_of[s] = free[free_count]
                    copies[copy_of[s]] = clock
                    other = blocked_by[u]
                    while other >= 0:
                        ready[ready_count] = other
                        ready_count += 1
                        other = next_blocked[other]
                    blocked_by[u] = -1
            else:
                clock[u] = i + 1
                found = _access(i, code, views, tiles, whole, clock, owner, out, at)
                if found != FINE:
                    return found, i
            i += 1
        position[q] = i
    for u in range(queues):
        if position[used[u]] < starts[used[u] + 1]:
            return STUCK, position[used[u]]
    return FINE, -1
