"""What every instruction of a sequence has to wait for, by the memory that it touches.

See ``synchronise`` for the rules; this is the pass over all instructions that finds the
pairs. A pair that an earlier one of the same two queues implies is left out here already;
``implied`` drops those that follow through other queues.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from motet.targets.systolic.instructions.isa import NO_OPERAND, Flag, Function, Opcode
from motet.targets.systolic.instructions.regions import bucket_box

GRANULES = 1024
"""Granules of a memory at most; tiles that share one are ordered though they need not be."""

_LOAD, _MATMUL, _CONV1D = int(Opcode.LOAD), int(Opcode.MATMUL), int(Opcode.CONV1D)
_VECTOR, _STORE, _TRANSFER = int(Opcode.VECTOR), int(Opcode.STORE), int(Opcode.TRANSFER)
_ACCUMULATE, _BIAS = int(Flag.ACCUMULATE), int(Flag.BIAS)
_RESIDENT, _IN_ACCUMULATORS = int(Flag.RESIDENT), int(Flag.ACCUMULATORS)
_COPY, _MAXIMUM = int(Function.COPY), int(Function.MAXIMUM)
_COLUMN_SCALE, _COLUMN_ADD = int(Function.COLUMN_SCALE), int(Function.COLUMN_ADD)
_REQUANTISE = int(Function.REQUANTISE)
_ROW_REQUANTISE = int(Function.ROW_REQUANTISE)
_ROW_MAXIMUM, _ROW_SUM_SQUARES = int(Function.ROW_MAXIMUM), int(Function.ROW_SUM_SQUARES)
_ROW_MULTIPLY = int(Function.ROW_MULTIPLY)
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
    """Note ``i`` as a writer of a box of buckets; each queue's last one is kept."""
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
                larger = np.empty((2 * used, 2), np.int64)
                larger[:used] = nodes
                nodes = larger
            nodes[used, 0], nodes[used, 1] = i, heads[bucket]
            heads[bucket] = used
            used += 1
    return nodes, used


@njit(cache=True, nogil=True)
def find_waits(  # type: ignore[no-untyped-def]
    code, queues, views, grids, buckets, written, staging, replaced, pods, granule, acc_granule
):
    """Rows (instruction that waits, instruction that it waits for): see ``synchronise``.

    ``last_use`` [resident tensors' numbers, queues]: for places used again.
    """
    queue_count = 4 * pods
    pads = np.full((pods, GRANULES + 2, 5), -1, np.int32)
    accumulators = np.full((pods, GRANULES + 2, 5), -1, np.int32)
    heads = np.full(buckets + 1, -1, np.int64)
    nodes = np.empty((1024, 2), np.int64)
    used = 0
    tracked = len(grids) if len(replaced) else 0
    last_use = np.full((tracked, queue_count), -1, np.int32)
    known = np.full((queue_count, queue_count), -1, np.int32)
    needed = np.full(queue_count, -1, np.int64)
    touched = np.empty(queue_count, np.int64)
    box = np.empty(4, np.int64)
    waits = np.empty((len(code) + 16, 2), np.int64)
    found = 0
    for i in range(len(code)):
        c = code[i]
        own, pod, n = queues[i], int(c.pod), 0
        engine = own % 4
        rows, columns, depth = int(c.rows), int(c.columns), int(c.depth)
        flags, function = int(c.flags), int(c.function)
        address, second = int(c.address), int(c.second_address)
        third, acc = int(c.third_address), int(c.accumulator_address)
        tile = rows * columns
        first_target, targets = int(c.target_pod), int(c.target_pods)
        reads_view = c.opcode == _LOAD or (flags & _RESIDENT) != 0
        writes_view = (c.opcode == _STORE or c.opcode == _TRANSFER) and c.operand != _NONE
        if reads_view or writes_view:
            tensor = views[c.operand].tensor
            if staging[tensor] and flags & _RESIDENT:
                place = views[c.operand].resident
                n = _tile(needed, touched, n, queues, own, i, pads,
                          pod, engine, place, place + grids[tensor].elements,
                          granule, False)  # fmt: skip
            elif written[tensor]:
                wide = columns
                if c.opcode == _MATMUL:
                    wide = depth
                elif c.opcode == _CONV1D:
                    wide = (columns - 1) * int(c.value) + depth
                bucket_box(
                    views, grids, c.operand, int(c.group), int(c.row), int(c.column),
                    rows, wide, box,
                )  # fmt: skip
                if reads_view:
                    n = _read_tensor(
                        needed, touched, n, queues, own, box, grids[tensor], heads, nodes
                    )
                else:
                    nodes, used = _write_tensor(i, queues, box, grids[tensor], heads, nodes, used)
                if tracked:
                    last_use[tensor, own] = i
                    if writes_view:
                        for r in range(len(replaced)):
                            if replaced[r, 0] == tensor:
                                for q in range(queue_count):
                                    n = _need(
                                        needed, touched, n, queues, own, last_use[replaced[r, 1], q]
                                    )
        if c.opcode == _LOAD:
            for target in range(first_target, first_target + targets):
                if flags & _IN_ACCUMULATORS:
                    n = _tile(needed, touched, n, queues, own, i, accumulators,
                              target, engine, acc, acc + tile, acc_granule, True)  # fmt: skip
                else:
                    n = _tile(needed, touched, n, queues, own, i, pads,
                              target, engine, address, address + tile, granule, True)  # fmt: skip
        elif c.opcode == _MATMUL or c.opcode == _CONV1D:
            wide = depth
            weights = depth * columns
            vector = columns
            if c.opcode == _CONV1D:
                wide = (columns - 1) * int(c.value) + depth
                weights = rows * depth
                vector = rows
            if not flags & _RESIDENT:
                n = _tile(needed, touched, n, queues, own, i, pads,
                          pod, engine, address, address + rows * wide, granule, False)  # fmt: skip
            n = _tile(needed, touched, n, queues, own, i, pads,
                      pod, engine, second, second + weights, granule, False)  # fmt: skip
            if flags & _BIAS:
                n = _tile(needed, touched, n, queues, own, i, accumulators,
                          pod, engine, third, third + vector, acc_granule, False)  # fmt: skip
            n = _tile(needed, touched, n, queues, own, i, accumulators,
                      pod, engine, acc, acc + tile, acc_granule, True)  # fmt: skip
        elif c.opcode == _VECTOR:
            if function >= _COPY and function <= _MAXIMUM and not flags & _RESIDENT:
                if flags & _IN_ACCUMULATORS:
                    n = _tile(needed, touched, n, queues, own, i, accumulators,
                              pod, engine, second, second + tile, acc_granule, False)  # fmt: skip
                else:
                    n = _tile(needed, touched, n, queues, own, i, pads,
                              pod, engine, second, second + tile, granule, False)  # fmt: skip
            by_column = function in (_COLUMN_SCALE, _COLUMN_ADD, _REQUANTISE)
            by_row = function >= _ROW_MAXIMUM and function <= _ROW_MULTIPLY
            by_row = by_row or function == _ROW_REQUANTISE
            if by_column or by_row:
                length = columns if by_column else rows
                n = _tile(needed, touched, n, queues, own, i, accumulators,
                          pod, engine, third, third + length, acc_granule,
                          _ROW_MAXIMUM <= function <= _ROW_SUM_SQUARES)  # fmt: skip
            n = _tile(needed, touched, n, queues, own, i, accumulators,
                      pod, engine, acc, acc + tile, acc_granule, True)  # fmt: skip
        elif c.opcode == _STORE or (c.opcode == _TRANSFER and c.operand != _NONE):
            n = _tile(needed, touched, n, queues, own, i, accumulators,
                      pod, engine, acc, acc + tile, acc_granule, False)  # fmt: skip
        elif c.opcode == _TRANSFER:
            moved_acc = flags & _IN_ACCUMULATORS
            if moved_acc:
                n = _tile(needed, touched, n, queues, own, i, accumulators,
                          pod, engine, acc, acc + tile, acc_granule, False)  # fmt: skip
            else:
                n = _tile(needed, touched, n, queues, own, i, pads,
                          pod, engine, second, second + tile, granule, False)  # fmt: skip
            for target in range(first_target, first_target + targets):
                if moved_acc:
                    n = _tile(needed, touched, n, queues, own, i, accumulators,
                              target, engine, third, third + tile, acc_granule, True)  # fmt: skip
                else:
                    n = _tile(needed, touched, n, queues, own, i, pads,
                              target, engine, address, address + tile, granule, True)  # fmt: skip
        for t in range(n):
            queue = touched[t]
            other = needed[queue]
            needed[queue] = -1
            if known[own, queue] >= other:
                continue
            known[own, queue] = other
            if found == len(waits):
                larger_waits = np.empty((2 * found, 2), np.int64)
                larger_waits[:found] = waits
                waits = larger_waits
            waits[found, 0], waits[found, 1] = i, other
            found += 1
    return waits[:found]
