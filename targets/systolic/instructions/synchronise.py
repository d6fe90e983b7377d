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

A wait that others imply (``implied``) is left out. An instruction that somebody still waits
for gets a SIGNAL behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from motet.runtime.errors import ProgramError
from motet.targets.systolic.instructions.accesses import (
    HIGH,
    MAX_ACCESSES,
    MEMORY,
    SCRATCHPAD,
    tile_accesses,
)
from motet.targets.systolic.instructions.addressing import View
from motet.targets.systolic.instructions.granules import granule_words
from motet.targets.systolic.instructions.hazards import find_waits
from motet.targets.systolic.instructions.implied import without_implied
from motet.targets.systolic.instructions.isa import (
    ENGINE_OF,
    ENGINES,
    NO_OPERAND,
    Flag,
    Instructions,
    Opcode,
    empty_instructions,
)
from motet.targets.systolic.instructions.program import Role, StepInfo, SystolicProgram, Tensor
from motet.targets.systolic.instructions.regions import grids_of


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

    Raises ``ProgramError`` where ``sequence`` names a pod that is not there, or an opcode that
    is none or that only this function may place.
    """
    _check(sequence, pods)
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


def _check(sequence: Instructions, pods: int) -> None:
    """What compiled code could not survive."""
    moving = np.isin(sequence["opcode"], [Opcode.LOAD, Opcode.TRANSFER])
    stop = sequence["target_pod"].astype(np.int64) + sequence["target_pods"]
    foreign = np.flatnonzero((sequence["pod"] >= pods) | (moving & (stop > pods)))
    if len(foreign):
        i = int(foreign[0])
        named = max(int(sequence["pod"][i]), int(stop[i]) - 1 if moving[i] else 0)
        raise ProgramError(
            f"array program: instruction {i} of the sequence names pod {named}, but the program "
            f"has queues for {pods} pods: give it more, or place the step on fewer"
        )
    unknown = np.flatnonzero(~np.isin(sequence["opcode"], list(ENGINE_OF)))
    if len(unknown):
        i = int(unknown[0])
        raise ProgramError(
            f"array program: instruction {i} of the sequence has opcode "
            f"{int(sequence['opcode'][i])}: WAIT and SIGNAL are placed here, others do not exist"
        )


def _queues(sequence: Instructions) -> NDArray[np.int64]:
    """The queue of every instruction."""
    engines = np.zeros(256, np.int64)
    for opcode, engine in ENGINE_OF.items():
        engines[opcode] = engine
    made: NDArray[np.int64] = sequence["pod"].astype(np.int64) * ENGINES
    made += engines[sequence["opcode"]]
    return made


def _waits(draft: SystolicProgram, queues: NDArray[np.int64], pods: int) -> NDArray[np.int64]:
    """Rows (instruction that waits, instruction that it waits for), in order of the first."""
    grids, buckets = grids_of(draft.tensors)
    scratchpad, accumulators = _extents(draft.instructions)
    ends = [t.resident + t.elements for t in draft.tensors if t.resident is not None]
    scratchpad = max([scratchpad, *ends])
    written = np.array([t.role in (Role.INTERNAL, Role.OUTPUT) for t in draft.tensors], bool)
    staging = written & _staging(draft)
    resident = [t.resident is not None for t in draft.tensors]
    found = find_waits(
        draft.instructions,
        queues,
        draft.view_table,
        grids,
        buckets,
        written & ~staging,
        staging,
        _replaced(draft) if any(resident) else np.zeros((0, 2), np.int64),
        pods,
        granule_words(scratchpad, _bases(draft, "address", "second_address")),
        granule_words(accumulators, _bases(draft, "accumulator_address", "third_address")),
    )
    return without_implied(found, queues)


def _staging(draft: SystolicProgram) -> NDArray[np.bool_]:
    """Which tensors are resident and never written through a view: LOADs fill them."""
    made = np.array([tensor.resident is not None for tensor in draft.tensors], bool)
    code = draft.instructions
    writes = np.isin(code["opcode"], [Opcode.STORE, Opcode.TRANSFER])
    for operand in np.unique(code["operand"][writes & (code["operand"] != NO_OPERAND)]):
        made[draft.views[operand].tensor] = False
    return made


@njit(cache=True, nogil=True)
def _extents(code: Any) -> tuple[int, int]:
    """Words of scratchpads and of accumulators below the end of every tile; at least 1 each."""
    scratchpad, accumulators = 1, 1
    tiles = np.empty((MAX_ACCESSES, 5), np.int64)
    for i in range(len(code)):
        for k in range(tile_accesses(code[i], tiles)):
            if tiles[k, MEMORY] == SCRATCHPAD:
                scratchpad = max(scratchpad, tiles[k, HIGH])
            else:
                accumulators = max(accumulators, tiles[k, HIGH])
    return scratchpad, accumulators


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


def _replaced(draft: SystolicProgram) -> NDArray[np.int64]:
    """Pairs (tensor, one written earlier that shares words of a pod with it) of resident ones.

    In order of the first.
    """
    placed = [(i, t.resident, t.resident + t.elements) for i, t in enumerate(draft.tensors)
              if t.resident is not None]  # fmt: skip
    written, pods = _written_first(draft)
    pairs = [
        (later, earlier)
        for later, low, high in placed
        for earlier, begin, end in placed
        if (written[earlier], earlier) < (written[later], later)
        and begin < high
        and low < end
        and pods[earlier, 0] < pods[later, 1]
        and pods[later, 0] < pods[earlier, 1]
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _written_first(draft: SystolicProgram) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of every tensor the first TRANSFER that writes it, and the pods [first, stop) that hold it.

    What no TRANSFER writes through a view counts as written last, on all pods.
    """
    code, count = draft.instructions, len(draft.tensors)
    at = np.flatnonzero((code["opcode"] == Opcode.TRANSFER) & (code["operand"] != NO_OPERAND))
    owner = np.array([view.tensor for view in draft.views], np.int64)
    tensors = owner[code["operand"][at]]
    written = np.full(count, len(code), np.int64)
    np.minimum.at(written, tensors, at)
    first, stop = np.full(count, 1 << 30, np.int64), np.zeros(count, np.int64)
    target = code["target_pod"][at].astype(np.int64)
    np.minimum.at(first, tensors, target)
    np.maximum.at(stop, tensors, target + code["target_pods"][at])
    is_written = written < len(code)
    pods = np.where(is_written, (first, stop), np.array([[0], [1 << 30]])).T
    return written, pods


def _laid_out(
    sequence: Instructions, queues: NDArray[np.int64], waits: NDArray[np.int64], pods: int
) -> tuple[Instructions, NDArray[np.int64]]:
    """Queue after queue: WAITs before, SIGNALs behind the instructions that they belong to."""
    signalled = np.zeros(len(sequence), bool)
    signalled[waits[:, 1]] = True
    total = pods * ENGINES
    lengths = np.bincount(queues, minlength=total) + np.bincount(queues[signalled], minlength=total)
    lengths += np.bincount(queues[waits[:, 0]], minlength=total)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    blank = empty_instructions(2)
    blank["opcode"] = Opcode.WAIT, Opcode.SIGNAL
    made = np.empty(int(starts[-1]), sequence.dtype)
    _place(made, sequence, queues, waits, signalled, blank, starts[:-1].copy())
    return made, starts


@njit(cache=True, nogil=True)
def _place(
    made: Any, sequence: Any, queues: Any, waits: Any, signalled: Any, blank: Any, at: Any
) -> None:
    """Fill ``made``; ``at`` [queues]: where each queue begins. ``blank``: a WAIT, a SIGNAL."""
    semaphores = np.zeros(len(at), np.int64)
    values = np.zeros(len(sequence), np.uint32)  # of its queue's semaphore behind an instruction
    w = 0
    for i in range(len(sequence)):
        queue, pod, step = queues[i], sequence[i].pod, sequence[i].step
        place = at[queue]
        while w < len(waits) and waits[w, 0] == i:
            made[place] = blank[0]
            made[place].pod, made[place].step = pod, step
            made[place].semaphore = queues[waits[w, 1]]
            made[place].value = values[waits[w, 1]]
            place += 1
            w += 1
        made[place] = sequence[i]
        place += 1
        if signalled[i]:
            semaphores[queue] += 1
            values[i] = semaphores[queue]
            made[place] = blank[1]
            made[place].pod, made[place].step = pod, step
            place += 1
        at[queue] = place
