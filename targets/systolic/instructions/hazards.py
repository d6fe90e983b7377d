"""What every instruction of a sequence has to wait for, by the memory that it touches.

Accesses are those of ``accesses``. See ``synchronise`` for the rules; this is the pass over all
instructions that finds the pairs. A pair that an earlier one of the same two queues implies is left
out here already;
``implied`` drops those that follow through other queues.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from motet.targets.systolic.instructions.accesses import (
    HIGH,
    LOW,
    MAX_ACCESSES,
    MEMORY,
    ON_TARGETS,
    SCRATCHPAD,
    WRITES,
    tile_accesses,
    view_columns,
)
from motet.targets.systolic.instructions.granules import GRANULES
from motet.targets.systolic.instructions.isa import NO_OPERAND, Flag, Opcode
from motet.targets.systolic.instructions.regions import bucket_box

_LOAD, _STORE, _TRANSFER = int(Opcode.LOAD), int(Opcode.STORE), int(Opcode.TRANSFER)
_RESIDENT = int(Flag.RESIDENT)
_NONE = NO_OPERAND


@njit(cache=True, nogil=True)
def _need(needed, touched, count, queues, own, other):  # type: ignore[no-untyped-def]
    """Note that the instruction needs ``other`` complete; the number of queues noted."""
    if other < 0:
        return count
    queue = queues[other]
    if queue == own:
        return count
    if needed[queue] < 0:
        touched[count] = queue
        count += 1
    if needed[queue] < other:
        needed[queue] = other
    return count


@njit(cache=True, nogil=True)
def _tile(  # type: ignore[no-untyped-def]
    needed, touched, count, queues, own, i, uses, pod, engine, low, high, granule, writes
):
    """Hazards of a tile at words [low, high) of one pod's memory; notes the access.

    ``uses`` [pods, granules, 5]: the last reader of each engine, then the last writer.
    """
    a, b, c, d, w = -1, -1, -1, -1, -1  # neighbours mostly have the same uses: ask once
    for g in range(low // granule, (max(high, low + 1) - 1) // granule + 1):
        if uses[pod, g, 4] != w:
            w = uses[pod, g, 4]
            count = _need(needed, touched, count, queues, own, w)
        if not writes:
            uses[pod, g, engine] = i
            continue
        if uses[pod, g, 0] != a:
            a = uses[pod, g, 0]
            count = _need(needed, touched, count, queues, own, a)
        if uses[pod, g, 1] != b:
            b = uses[pod, g, 1]
            count = _need(needed, touched, count, queues, own, b)
        if uses[pod, g, 2] != c:
            c = uses[pod, g, 2]
            count = _need(needed, touched, count, queues, own, c)
        if uses[pod, g, 3] != d:
            d = uses[pod, g, 3]
            count = _need(needed, touched, count, queues, own, d)
        for user in range(4):
            uses[pod, g, user] = -1
        uses[pod, g, 4] = i
    return count


@njit(cache=True, nogil=True)
def _grown(rows):  # type: ignore[no-untyped-def]
    """Rows with room for as many again behind them."""
    larger = np.empty((2 * len(rows), rows.shape[1]), rows.dtype)
    larger[: len(rows)] = rows
    return larger


@njit(cache=True, nogil=True)
def _read_tensor(  # type: ignore[no-untyped-def]
    needed, touched, count, queues, own, box, grid, heads, nodes
):
    """Wait for the writers of a box of buckets."""
    for sheet in range(box[0], box[1]):
        for position in range(box[2], box[3]):
            node = heads[grid.first + sheet * grid.across + position]
            while node >= 0:
                count = _need(needed, touched, count, queues, own, nodes[node, 0])
                node = nodes[node, 1]
    return count


@njit(cache=True, nogil=True)
def _write_tensor(i, queues, box, grid, heads, nodes, used):  # type: ignore[no-untyped-def]
    """Note ``i`` as a writer of a box of buckets; each queue's last one is kept.

    The nodes, which may have moved to where there is room, and how many are in use.
    """
    for sheet in range(box[0], box[1]):
        for position in range(box[2], box[3]):
            bucket = grid.first + sheet * grid.across + position
            node = heads[bucket]
            while node >= 0 and queues[nodes[node, 0]] != queues[i]:
                node = nodes[node, 1]
            if node >= 0:
                nodes[node, 0] = i
                continue
            if used == len(nodes):
                nodes = _grown(nodes)
            nodes[used, 0], nodes[used, 1] = i, heads[bucket]
            heads[bucket] = used
            used += 1
    return nodes, used


@njit(cache=True, nogil=True)
def _replace_tensors(  # type: ignore[no-untyped-def]
    needed, touched, count, queues, own, earlier, last_use, newest, noted
):
    """Wait for all that used the tensors ``earlier`` in this place since instruction ``noted``."""
    for tensor in earlier:
        if newest[tensor] > noted:
            for queue in range(last_use.shape[1]):
                count = _need(needed, touched, count, queues, own, last_use[tensor, queue])
    return count


@njit(cache=True, nogil=True)
def _places(replaced, tensors, queues):  # type: ignore[no-untyped-def]
    """For places used again: (first row of each tensor in ``replaced``, and what starts empty).

    ``last_use`` [tensors, queues] and ``newest`` [tensors]: their last instructions; ``noted``
    [tensors, queues]: the last writers that looked at what their tensors replace. No tensors
    where none is replaced.
    """
    tracked = tensors if len(replaced) else 0
    starts = np.searchsorted(replaced[:, 0], np.arange(tracked + 1))
    last_use = np.full((tracked, queues), -1, np.int32)
    newest = np.full(tracked, -1, np.int64)
    noted = np.full((tracked, queues), -1, np.int64)
    return starts, last_use, newest, noted


@njit(cache=True, nogil=True)
def _use_place(  # type: ignore[no-untyped-def]
    needed, touched, count, queues, i, tensor, writes, replaced, places
):
    """Note the use of a tensor; a writer waits for what its place held before."""
    starts, last_use, newest, noted = places
    own = queues[i]
    last_use[tensor, own] = newest[tensor] = i
    if writes:
        count = _replace_tensors(
            needed, touched, count, queues, own,
            replaced[starts[tensor] : starts[tensor + 1], 1], last_use, newest, noted[tensor, own],
        )  # fmt: skip
        noted[tensor, own] = i
    return count


@njit(cache=True, nogil=True)
def _keep(i, own, needed, touched, count, known, waits, found):  # type: ignore[no-untyped-def]
    """Add what ``i`` has to wait for that its queue does not know; empties ``needed``.

    The rows, which may have moved to where there is room, and how many are in use.
    """
    for t in range(count):
        queue = touched[t]
        other = needed[queue]
        needed[queue] = -1
        if known[own, queue] >= other:
            continue
        known[own, queue] = other
        if found == len(waits):
            waits = _grown(waits)
        waits[found, 0], waits[found, 1] = i, other
        found += 1
    return waits, found


@njit(cache=True, nogil=True)
def find_waits(  # type: ignore[no-untyped-def]
    code, queues, views, grids, buckets, written, staging, replaced, pods, granule, acc_granule
):
    """Rows (instruction that waits, instruction that it waits for): see ``synchronise``.

    Parameters
    ----------
    code: instructions in a legal order; queues: int64, the queue of each.
    views: ``view_table``; grids, buckets: of ``regions.grids_of``.
    written, staging: bool [tensors], those written once through views, and those that LOADs fill.
    replaced: int64 [pairs, 2], tensors and earlier ones in their place, sorted by the first.
    granule, acc_granule: words of a granule of scratchpads and of accumulators.
    """
    queue_count = 4 * pods
    pads = np.full((pods, GRANULES + 2, 5), -1, np.int32)
    accumulators = np.full((pods, GRANULES + 2, 5), -1, np.int32)
    heads = np.full(buckets + 1, -1, np.int64)
    nodes, used = np.empty((1024, 2), np.int64), 0
    places = _places(replaced, len(grids), queue_count)
    known = np.full((queue_count, queue_count), -1, np.int32)
    needed, touched = np.full(queue_count, -1, np.int64), np.empty(queue_count, np.int64)
    box, tiles = np.empty(4, np.int64), np.empty((MAX_ACCESSES, 5), np.int64)
    waits, found = np.empty((len(code) + 16, 2), np.int64), 0
    for i in range(len(code)):
        c = code[i]
        own, pod, n = queues[i], int(c.pod), 0
        reads = c.opcode == _LOAD or (int(c.flags) & _RESIDENT) != 0
        writes = (c.opcode == _STORE or c.opcode == _TRANSFER) and c.operand != _NONE
        if reads or writes:
            tensor = views[c.operand].tensor
            if staging[tensor] and int(c.flags) & _RESIDENT:
                place = views[c.operand].resident
                n = _tile(needed, touched, n, queues, own, i, pads,
                          pod, own % 4, place, place + grids[tensor].elements,
                          granule, False)  # fmt: skip
            elif written[tensor]:
                bucket_box(
                    views, grids, c.operand, int(c.group), int(c.row), int(c.column),
                    int(c.rows), view_columns(c), box,
                )  # fmt: skip
                grid = grids[tensor]
                if reads:
                    n = _read_tensor(needed, touched, n, queues, own, box, grid, heads, nodes)
                else:
                    nodes, used = _write_tensor(i, queues, box, grid, heads, nodes, used)
                if len(replaced):
                    n = _use_place(needed, touched, n, queues, i, tensor, writes, replaced, places)
        for k in range(tile_accesses(c, tiles)):
            memory, low, high = tiles[k, MEMORY], tiles[k, LOW], tiles[k, HIGH]
            uses, size = (pads, granule) if memory == SCRATCHPAD else (accumulators, acc_granule)
            first, last = pod, pod + 1
            if tiles[k, ON_TARGETS]:
                first, last = int(c.target_pod), int(c.target_pod) + int(c.target_pods)
            for target in range(first, last):
                n = _tile(needed, touched, n, queues, own, i, uses,
                          target, own % 4, low, high, size, tiles[k, WRITES] != 0)  # fmt: skip
        if n:
            waits, found = _keep(i, own, needed, touched, n, known, waits, found)
    return waits[:found]
