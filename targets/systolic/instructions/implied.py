"""Waits that follow from others: what a queue knows, it learns with every wait.

When queue A waits for instruction x of queue B, then A also knows all that B knew when x
began. A *clock* holds, per queue, the last instruction known to be complete; a wait joins
the clock that the awaited instruction had into the waiting queue's. A wait for something
already known is dropped. Of the waits of one instruction the latest awaited goes first:
only a later instruction can imply an earlier one, so that exactly the transitive reduction
remains.

Clocks are rows of a table that an instruction shares with its queue until the queue
learns more (copy on write); a row is free again when the last wait for its instructions is
done. Where more than ``MAX_TABLE_WORDS`` would be in use, all clocks of instructions are
forgotten: later waits for them teach less, so that some implied waits stay. That is sound.

Cost: O(waits that teach something x queues in use).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

MAX_TABLE_WORDS = 1 << 26
"""int32 words of clocks: 256 MiB."""


def without_implied(
    waits: NDArray[np.int64], queues: NDArray[np.int64], *, max_words: int = MAX_TABLE_WORDS
) -> NDArray[np.int64]:
    """Those of ``waits`` that no others imply; the order that all of them keep is the same.

    Parameters
    ----------
    waits: int64 [count, 2], rows (instruction, the one that it waits for) in order of the
        first; the second is earlier, and in another queue.
    queues: int64 [instructions], the queue of each.
    max_words: see ``MAX_TABLE_WORDS``; two clocks per queue are kept at least.
    """
    is_used = np.bincount(queues) > 0
    numbers, used = (np.cumsum(is_used) - 1).astype(np.int32), int(is_used.sum())
    rows = min(max_words // max(1, used), used + len(waits))
    table = _table(len(queues), used, max(rows, 2 * used + 2))
    return _kept(waits, numbers[queues], table)  # type: ignore[no-any-return]


class _Clocks(NamedTuple):
    """The table, see the module.

    rows: int32 [rows, queues], the clocks. uses: int32 [rows], awaited instructions that have
    the row. current: int64 [queues], each queue's row. is_current: bool [rows]. row_of: int32
    [instructions], -1 where none is kept. free: int64 [rows], a stack of ``top[0]`` rows.
    """

    rows: NDArray[np.int32]
    uses: NDArray[np.int32]
    current: NDArray[np.int64]
    is_current: NDArray[np.bool_]
    row_of: NDArray[np.int32]
    free: NDArray[np.int64]
    top: NDArray[np.int64]


def _table(instructions: int, queues: int, rows: int) -> _Clocks:
    table = np.empty((rows, queues), np.int32)  # most of it is never touched
    table[:queues] = -1
    return _Clocks(
        table,
        np.zeros(rows, np.int32),
        np.arange(queues),
        np.arange(rows) < queues,
        np.full(instructions, -1, np.int32),
        np.arange(rows)[::-1].copy(),
        np.array([rows - queues]),
    )


@njit(cache=True, nogil=True)
def _kept(waits: Any, queues: Any, clocks: Any) -> Any:
    """See ``without_implied``."""
    awaited = np.zeros(len(queues), np.int32)  # waits to come
    for w in range(len(waits)):
        awaited[waits[w, 1]] += 1
    made, found, begin = np.empty_like(waits), 0, 0
    for i in range(len(queues)):
        own, end = queues[i], begin
        while end < len(waits) and waits[end, 0] == i:
            end += 1
        _sort_latest_first(waits, begin, end)
        for w in range(begin, end):
            other = waits[w, 1]
            if clocks.rows[clocks.current[own], queues[other]] < other:
                made[found] = waits[w]
                found += 1
                _learn(clocks, own, other, queues[other])
            awaited[other] -= 1
            if awaited[other] == 0:
                _release(clocks, other)
        begin = end
        if awaited[i]:
            clocks.row_of[i] = clocks.current[own]
            clocks.uses[clocks.current[own]] += 1
    return made[:found].copy()


@njit(cache=True, nogil=True)
def _learn(clocks: Any, own: int, other: int, queue: int) -> None:
    """Queue ``own`` has waited for ``other`` in ``queue``."""
    row = clocks.current[own]
    if clocks.uses[row] > 0:  # awaited instructions have it: it stays as it is
        if clocks.top[0] == 0:
            _forget(clocks)
        else:
            clocks.top[0] -= 1
            new = clocks.free[clocks.top[0]]
            clocks.rows[new] = clocks.rows[row]
            clocks.is_current[row], clocks.is_current[new] = False, True
            clocks.current[own] = new
    clock = clocks.rows[clocks.current[own]]
    if clocks.row_of[other] >= 0:
        known = clocks.rows[clocks.row_of[other]]
        for q in range(len(clock)):
            clock[q] = max(clock[q], known[q])
    clock[queue] = other


@njit(cache=True, nogil=True)
def _release(clocks: Any, instruction: int) -> None:
    """Nobody waits for it any more."""
    row = clocks.row_of[instruction]
    if row < 0:
        return
    clocks.row_of[instruction] = -1
    clocks.uses[row] -= 1
    if clocks.uses[row] == 0 and not clocks.is_current[row]:
        clocks.free[clocks.top[0]] = row
        clocks.top[0] += 1


@njit(cache=True, nogil=True)
def _forget(clocks: Any) -> None:
    """Only the queues keep their clocks."""
    clocks.row_of[:] = -1
    clocks.uses[:] = 0
    clocks.top[0] = 0
    for row in range(len(clocks.rows)):
        if not clocks.is_current[row]:
            clocks.free[clocks.top[0]] = row
            clocks.top[0] += 1


@njit(cache=True, nogil=True)
def _sort_latest_first(waits: Any, begin: int, end: int) -> None:
    """Put the awaited instructions of rows [begin, end), which are few, in descending order."""
    for w in range(begin + 1, end):
        other, at = waits[w, 1], w
        while at > begin and waits[at - 1, 1] < other:
            waits[at, 1] = waits[at - 1, 1]
            at -= 1
        waits[at, 1] = other
