"""Runs a program without values, and proves that no access (``accesses``) comes too early.

The rules are those of ``checker``; what an instruction does to memories is ``cell_accesses``'.

Algorithm. Semaphores only count up and each is signalled by one queue alone, so the n-th
SIGNAL of a queue is what a WAIT for n waits for: the order that a program has is a fixed
directed graph, and any order of execution that respects it finds the same races. Queues
run one after another as far as their WAITs let them. ``clocks`` [queue, queue] says how far
each queue knows every other to be complete (an instruction's number, exclusive); a SIGNAL
that is waited for keeps a copy of its queue's clock until the last of its WAITs has taken
it, a WAIT takes the maximum of it and its own, and is skipped where it knows as much.

Cost: O(values of the different tiles of views, sorted) + O(cells that accesses touch) + O(waits
that teach something x queues in use) time; memory for the cells of each pod, queues in use
squared, and a clock for each signal that somebody still waits for.

A stack is an int64 array: its height, then its elements.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from motet.targets.systolic.instructions.accesses import MAX_ACCESSES
from motet.targets.systolic.instructions.cell_accesses import access, tensors_kept
from motet.targets.systolic.instructions.cells import FINE, STUCK
from motet.targets.systolic.instructions.isa import Opcode

_SIGNAL, _WAIT = int(Opcode.SIGNAL), int(Opcode.WAIT)
_FIRST_COPIES = 64
"""Clocks of signals that there is room for at first."""


@njit(cache=True, nogil=True)
def _push(stack: Any, value: int) -> None:
    stack[0] += 1
    stack[stack[0]] = value


@njit(cache=True, nogil=True)
def _pop(stack: Any) -> Any:
    stack[0] -= 1
    return stack[stack[0] + 1]


@njit(cache=True, nogil=True)
def _stack_of(first: int, stop: int) -> Any:
    """A stack of the numbers [first, stop), the lowest on top, with room for ``stop`` of them."""
    stack = np.zeros(stop + 1, np.int64)
    for number in range(stop - 1, first - 1, -1):
        _push(stack, number)
    return stack


@njit(cache=True, nogil=True)
def _awaited(code: Any, starts: Any, first_signal: Any) -> Any:
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
def _first_clocks(starts: Any, used: Any) -> Any:
    """What every queue in use knows at first: of all of them, that nothing is complete."""
    clocks = np.zeros((len(used), len(used)), np.int32)
    for u in range(len(used)):
        clocks[:, u] = starts[used[u]]
    return clocks


@njit(cache=True, nogil=True)
def _join(clock: Any, other: Any) -> None:
    """What is known, and what another queue knew."""
    for queue in range(len(clock)):
        if other[queue] > clock[queue]:
            clock[queue] = other[queue]


@njit(cache=True, nogil=True)
def _doubled(copies: Any) -> tuple[Any, Any]:
    """Room for twice as many clocks, and a stack of the new places; all there were are taken."""
    size = len(copies)
    larger = np.empty((2 * size, copies.shape[1]), np.int32)
    larger[:size] = copies
    return larger, _stack_of(size, 2 * size)


@njit(cache=True, nogil=True)
def _take(clock: Any, v: int, s: int, waits: Any, copies: Any, copy_of: Any, free: Any) -> None:
    """A WAIT for signal ``s`` of queue ``v``: learn what that knew; its copy goes with the last."""
    copy = copy_of[s]
    if clock[v] < copies[copy, v]:
        _join(clock, copies[copy])
    waits[s] -= 1
    if waits[s] == 0:
        _push(free, copy)


@njit(cache=True, nogil=True)
def _release(u: int, blocked_by: Any, next_blocked: Any, ready: Any) -> None:
    """The queues that wait for ``u`` are ready to try again."""
    other = blocked_by[u]
    while other >= 0:
        _push(ready, other)
        other = next_blocked[other]
    blocked_by[u] = -1


@njit(cache=True, nogil=True)
def _end(starts: Any, used: Any, position: Any) -> tuple[int, int]:
    """Whether all queues came to their end; of the first that did not, where it stands."""
    for q in used:
        if position[q] < starts[q + 1]:
            return STUCK, position[q]
    return FINE, -1


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
    pads, sums, pad_cells, sum_cells, writers = memories
    whole = pads, sums, pad_cells, sum_cells, writers, tensors_kept(code, views)
    first_signal = np.zeros(len(starts), np.int64)
    waits = _awaited(code, starts, first_signal)
    place = np.full(len(starts), -1, np.int64)
    place[used] = np.arange(len(used))
    position[used] = starts[used]
    clocks, signals = _first_clocks(starts, used), np.zeros(len(used), np.int64)
    copies = np.empty((_FIRST_COPIES, len(used)), np.int32)
    copy_of, free = np.full(len(waits), -1, np.int32), _stack_of(0, _FIRST_COPIES)
    blocked_by = np.full(len(used), -1, np.int64)  # the first queue that waits for this one
    next_blocked = np.full(len(used), -1, np.int64)
    ready = _stack_of(0, len(used))
    out = np.empty((MAX_ACCESSES, 5), np.int64)
    while ready[0]:
        u = _pop(ready)
        clock, q = clocks[u], used[u]
        for i in range(position[q], starts[q + 1]):
            c = code[i]
            if c.opcode == _WAIT:
                v, value = place[c.semaphore], np.int64(c.value)
                if value and signals[v] < value:
                    next_blocked[u], blocked_by[v] = blocked_by[v], u
                    break
                if value:
                    s = first_signal[c.semaphore] + value - 1
                    _take(clock, v, s, waits, copies, copy_of, free)
            elif c.opcode == _SIGNAL:
                clock[u] = i + 1
                s = first_signal[q] + signals[u]
                signals[u] += 1
                if waits[s]:
                    if free[0] == 0:
                        copies, free = _doubled(copies)
                    copy_of[s] = _pop(free)
                    copies[copy_of[s]] = clock
                    _release(u, blocked_by, next_blocked, ready)
            else:
                clock[u] = i + 1
                found = access(i, code, views, tiles, whole, clock, owner, out, at)
                if found != FINE:
                    return found, i
            position[q] = i + 1
    return _end(starts, used, position)
