"""From one sequential list of instructions to queues that run side by side.

Emitters write instructions in one order in which they could run one by one. Here every
hazard between queues that this order has is kept by a WAIT, and nothing else is: what two
queues do to different memory runs at the same time.

* Tiles, in scratchpads and accumulators: memory is divided into granules; a reader waits
  for the last writer of each, a writer for the last writer and for all readers since.
* Tensors in DRAM and resident ones: written once, by tiles that are disjoint; a reader waits
  for the writers of the buckets (``regions``) that it touches. A resident tensor that
  takes the place of an earlier one waits until nobody uses that any more.
* Resident tensors that LOADs fill (staging): as tiles, always whole.

A wait that an earlier one of the same queue implies is left out. An instruction that
somebody waits for gets a SIGNAL behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from motet.targets.systolic.instructions.addressing import View
from motet.targets.systolic.instructions.isa import (
    ENGINE_OF,
    ENGINES,
    NO_OPERAND,
    Flag,
    Function,
    Instructions,
    Opcode,
    empty_instructions,
)
from motet.targets.systolic.instructions.program import Role, StepInfo, SystolicProgram, Tensor
from motet.targets.systolic.instructions.regions import bucket_box, grids_of

GRANULES = 1024
"""Granules of a memory at most; tiles that share one are ordered though they need not be."""


def synchronise(
    sequence: Instructions,
    number_format: str,
    tensors: Sequence[Tensor],
    views: Sequence[View],
    steps: Sequence[StepInfo],
    pods: int,
) -> SystolicProgram:
    """The program that does what ``sequence``, without WAIT and SIGNAL, does in order.

    Parameters
    ----------
    sequence: instructions of dtype ``INSTRUCTION``, in a legal order.
    number_format: name of the format. tensors, views, steps: of the program.
    pods: how many pods have queues; all that ``sequence`` names.
    """
    draft = SystolicProgram(
        number_format,
        sequence,
        np.zeros(pods * ENGINES + 1, np.int64),
        tuple(tensors),
        tuple(views),
        tuple(steps),
    )
    queues = _queues(sequence)
    waits = _waits(draft, queues, pods)
    instructions, starts = _laid_out(sequence, queues, waits, pods)
    return SystolicProgram(
        number_format, instructions, starts, draft.tensors, draft.views, draft.steps
    )


def _queues(sequence: Instructions) -> NDArray[np.int64]:
    """The queue of every instruction."""
    engines = np.zeros(256, np.int64)
    for opcode, engine in ENGINE_OF.items():
        engines[opcode] = engine
    return sequence["pod"].astype(np.int64) * ENGINES + engines[sequence["opcode"]]


def _waits(draft: SystolicProgram, queues: NDArray[np.int64], pods: int) -> NDArray[np.int64]:
    """Rows (instruction that waits, instruction that it waits for), in order of the first."""
    grids, buckets = grids_of(draft.tensors)
    scratchpad, accumulators = _extents(draft.instructions)
    ends = [t.resident + t.elements for t in draft.tensors if t.resident is not None]
    scratchpad = max([scratchpad, *ends])
    written = np.array([t.role in (Role.INTERNAL, Role.OUTPUT) for t in draft.tensors], bool)
    staging = written & _staging(draft)
    resident = [t.resident is not None for t in draft.tensors]
    return _find_waits(  # type: ignore[no-any-return]
        draft.instructions,
        queues,
        draft.view_table,
        grids,
        buckets,
        written & ~staging,
        staging,
        _replaced(draft.tensors) if any(resident) else np.zeros((0, 2), np.int64),
        pods,
        granule_words(scratchpad, _bases(draft, "address", "second_address")),
        granule_words(accumulators, _bases(draft, "accumulator_address", "third_address")),
    )


def _staging(draft: SystolicProgram) -> NDArray[np.bool_]:
    """Which tensors are resident and never written through a view: LOADs fill them."""
    made = np.array([tensor.resident is not None for tensor in draft.tensors], bool)
    code = draft.instructions
    writes = np.isin(code["opcode"], [Opcode.STORE, Opcode.TRANSFER])
    for operand in np.unique(code["operand"][writes & (code["operand"] != NO_OPERAND)]):
        made[draft.views[operand].tensor] = False
    return made


def granule_words(words: int, addresses: NDArray[Any] | None = None) -> int:
    """Size of a granule in a memory of ``words`` words; tiles best begin at multiples of it.

    A power of two, or more where all ``addresses`` at which tiles begin are multiples of more.
    """
    least = 1 << max(0, (max(1, words) - 1) // GRANULES).bit_length()
    common = 0 if addresses is None or not len(addresses) else int(np.gcd.reduce(addresses))
    return least if common % least or not common else common


def _extents(sequence: Instructions) -> tuple[int, int]:
    """Words of scratchpad and accumulators that any tile may reach."""
    if not len(sequence):
        return 1, 1
    names = ("rows", "columns", "depth", "address", "second_address", "third_address")
    rows, columns, depth, address, second, third = (sequence[n].astype(np.int64) for n in names)
    in_sums = (sequence["flags"] & Flag.ACCUMULATORS) != 0
    tile = rows * np.maximum(columns, 1)
    line = rows * ((columns - 1) * sequence["value"] + depth)
    line *= sequence["opcode"] == Opcode.CONV1D
    first = address + np.maximum(np.where(depth > 0, rows * depth, tile), line)
    weights = np.where(depth > 0, np.maximum(rows, columns) * depth, tile)
    scratchpad = np.maximum(first, np.where(in_sums, 0, second + weights))
    vectors = third + np.where(in_sums, tile, np.maximum(rows, columns))
    sums = np.maximum(sequence["accumulator_address"] + tile, vectors)
    sums = np.maximum(sums, np.where(in_sums, second + tile, 0))
    return int(scratchpad.max()), int(sums.max())


def _bases(draft: SystolicProgram, *fields: str) -> NDArray[Any]:
    """The different addresses in ``fields``, and of resident tensors in a scratchpad."""
    found = [np.unique(draft.instructions[field]).astype(np.int64) for field in fields]
    resident = [t.resident for t in draft.tensors if t.resident is not None]
    if "address" in fields:
        found.append(np.array(resident, np.int64))
    else:  # a VECTOR or TRANSFER may name accumulators by its second address
        marked = (draft.instructions["flags"] & Flag.ACCUMULATORS) != 0
        found.append(np.unique(draft.instructions["second_address"][marked]).astype(np.int64))
    return np.concatenate(found)


def _replaced(tensors: Sequence[Tensor]) -> NDArray[np.int64]:
    """Pairs (tensor, earlier one in the same place) of resident tensors; numbers are in order."""
    placed = [(i, t.resident, t.resident + t.elements) for i, t in enumerate(tensors)
              if t.resident is not None]  # fmt: skip
    pairs = [
        (later, earlier)
        for later, low, high in placed
        for earlier, begin, end in placed
        if earlier < later and begin < high and low < end
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)


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
        use = uses[pod, g]
        if use[4] != w:
            w = use[4]
            count = _need(needed, touched, count, queues, own, w)
        if not writes:
            use[engine] = i
            continue
        if use[0] != a:
            a = use[0]
            count = _need(needed, touched, count, queues, own, a)
        if use[1] != b:
            b = use[1]
            count = _need(needed, touched, count, queues, own, b)
        if use[2] != c:
            c = use[2]
            count = _need(needed, touched, count, queues, own, c)
        if use[3] != d:
            d = use[3]
            count = _need(needed, touched, count, queues, own, d)
        use[0], use[1], use[2], use[3], use[4] = -1, -1, -1, -1, i
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
def _find_waits(  # type: ignore[no-untyped-def]
    code, queues, views, grids, buckets, written, staging, replaced, pods, granule, acc_granule
):
    """See ``_waits``. ``last_use`` [resident tensors' numbers, queues]: for places used again."""
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


def _laid_out(
    sequence: Instructions, queues: NDArray[np.int64], waits: NDArray[np.int64], pods: int
) -> tuple[Instructions, NDArray[np.int64]]:
    """Queue after queue: WAITs before, SIGNALs behind the instructions that they belong to."""
    signalled = np.zeros(len(sequence), bool)
    signalled[waits[:, 1]] = True
    order = np.argsort(queues, kind="stable")
    waits_of = np.bincount(waits[:, 0], minlength=len(sequence))[order]
    signals = signalled[order]
    ends = np.cumsum(waits_of + 1 + signals)
    places = np.empty(len(sequence), np.int64)
    places[order] = ends - 1 - signals
    total = int(ends[-1]) if len(ends) else 0
    made = empty_instructions(total)
    made[places] = sequence
    per_queue = np.bincount(queues, minlength=pods * ENGINES).astype(np.int64)
    bounds = np.concatenate([[0], np.cumsum(per_queue)])
    starts = np.concatenate([[0], ends])[bounds].astype(np.int64)
    _place_signals(made, sequence, signalled, places)
    _place_waits(made, sequence, waits, places, _semaphore_values(order, signals, bounds), queues)
    return made, starts


def _semaphore_values(
    order: NDArray[np.int64], signals: NDArray[np.bool_], bounds: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Per instruction: its queue's semaphore once its SIGNAL, if it has one, is done."""
    counted = np.cumsum(signals)
    before = np.concatenate([[0], counted])[bounds[:-1]]
    values = np.empty(len(order), np.int64)
    values[order] = counted - np.repeat(before, np.diff(bounds))
    return values


def _place_signals(
    made: Instructions,
    sequence: Instructions,
    signalled: NDArray[np.bool_],
    places: NDArray[np.int64],
) -> None:
    at = places[signalled] + 1
    made["opcode"][at] = Opcode.SIGNAL
    made["pod"][at], made["step"][at] = sequence["pod"][signalled], sequence["step"][signalled]


def _place_waits(
    made: Instructions,
    sequence: Instructions,
    waits: NDArray[np.int64],
    places: NDArray[np.int64],
    values: NDArray[np.int64],
    queues: NDArray[np.int64],
) -> None:
    """The waits of an instruction stand right before it."""
    if not len(waits):
        return
    waiting, awaited = waits[:, 0], waits[:, 1]
    firsts = np.flatnonzero(np.concatenate([[True], waiting[1:] != waiting[:-1]]))
    counts = np.diff(np.concatenate([firsts, [len(waits)]]))
    number = np.arange(len(waits)) - np.repeat(firsts, counts)
    at = places[waiting] - np.repeat(counts, counts) + number
    made["opcode"][at] = Opcode.WAIT
    made["pod"][at], made["step"][at] = sequence["pod"][waiting], sequence["step"][waiting]
    made["semaphore"][at], made["value"][at] = queues[awaited], values[awaited]
