"""The rules of the machine, checked on every program before it runs.

1. Tables: tensors, views and queues are what they say; a view's loops stay inside its tensor
   (padding included), a resident tensor inside every scratchpad. (``rules``)
2. Each instruction by itself: known codes and flags in the right queue; format, dataflow and
   array of its pod take its tile; its operand is readable or writable; addresses lie inside
   the memories; it does not overwrite what it reads, but in place. Fields that an opcode does
   not use are not looked at. (``rules``)
3. All together, by abstract execution (``ordering``): semaphores let every queue end; accesses
   to the same words or values, of which one writes, are ordered; no word or value is read
   that nothing wrote; a word that is read as a resident tensor's was last written as that
   tensor's, one that is read as a tile's as no tensor's.
4. Conservative, to make 3 exact and quick: a value of an internal or output tensor in DRAM is
   written once; every value of an output is written.
5. A step's MATMULs and CONV1Ds do at least the multiply-accumulates that it claims, so that
   utilisation is never overstated; a step that claims some names an instruction that does. A
   transposed convolution also claims those of outputs that it crops: its steps need only some.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import ProgramError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.accesses import SCRATCHPAD
from motet.targets.systolic.instructions.assembly import instruction_text
from motet.targets.systolic.instructions.assembly_words import queue_text
from motet.targets.systolic.instructions.cells import (
    FINE,
    FOREIGN,
    RACE,
    STUCK,
    TWICE,
    UNWRITTEN,
    VALUE_RACE,
    VALUE_TWICE,
    cells_of,
)
from motet.targets.systolic.instructions.isa import ENGINES, Opcode
from motet.targets.systolic.instructions.ordering import execute
from motet.targets.systolic.instructions.program import VIEW, Role, SystolicProgram
from motet.targets.systolic.instructions.rules import check_rules, check_tables
from motet.targets.systolic.instructions.view_tiles import (
    edge_address,
    edge_numbers,
    edges_of,
    view_tiles,
)
from motet.targets.systolic.vector_units import as_computed

Edges = tuple[NDArray[np.uint8], NDArray[np.int64]]
CROPPED = "TransposedConvolution"


def check_program(program: SystolicProgram, description: ArrayDescription) -> None:
    """Raise ``ProgramError`` naming the first instruction that breaks a rule, and the remedy."""
    description = as_computed(description, program.number_format)
    wrong = check_tables(program, description)
    if wrong is not None:
        raise ProgramError(f"array program: {wrong}")
    check_rules(program, description, lambda i, text: _error(program, i, text))
    _check_macs(program)
    _check_order(program, description)


def _error(program: SystolicProgram, index: int, text: str) -> ProgramError:
    return ProgramError(f"array program, {_named(program, index)}: {text}")


def _named(program: SystolicProgram, index: int) -> str:
    queue = int(np.searchsorted(program.queue_starts, index, "right")) - 1
    place = index - int(program.queue_starts[queue])
    line = instruction_text(program.instructions[index], queue // ENGINES)
    return f"queue {queue_text(queue)}, instruction {place} ({line})"


def _check_macs(program: SystolicProgram) -> None:
    """Rule 5."""
    code = program.instructions
    product = np.isin(code["opcode"], [Opcode.MATMUL, Opcode.CONV1D])
    made = np.full(int(product.sum()), float(program.number_format.lanes))
    for name in ("rows", "columns", "depth"):
        made *= code[name][product]
    done = np.bincount(code["step"][product], made, minlength=len(program.steps))
    for number, step in enumerate(program.steps):
        least = min(step.macs, 1) if step.kind == CROPPED else step.macs
        if done[number] < least:
            raise ProgramError(
                f"array program, step {number} ({step.name!r}): it claims {step.macs} "
                f"multiply-accumulates, its instructions do {int(done[number])}: correct its macs"
            )


def _check_order(program: SystolicProgram, description: ArrayDescription) -> None:
    """Rules 3 and 4."""
    code, starts = program.instructions, program.queue_starts.astype(np.int64)
    views = program.view_table if program.views else np.zeros(1, VIEW)
    used = np.flatnonzero(np.diff(starts)).astype(np.int64)
    owner = np.repeat(np.arange(len(used), dtype=np.int32), np.diff(starts)[used])
    bases, ends = _bases(program)
    runs = np.empty((_largest_tile(code), 3), np.int64)
    tile_of, first, intervals, repeats = view_tiles(code, views, bases, runs)
    on_chip = np.repeat(_resident_tiles(program, tile_of, len(repeats)), np.diff(first))
    pad_cells, sum_cells = cells_of(code, _capacities(program, description), intervals[on_chip])
    edges = edges_of(intervals[~on_chip], ends)
    ranges = np.empty_like(intervals)
    ranges[on_chip] = pad_cells[intervals[on_chip]]
    ranges[~on_chip] = edge_numbers(*edges, intervals[~on_chip])
    pods = max(program.pods, int((code["target_pod"] + code["target_pods"]).max(initial=0)))
    pads, sums = (
        np.zeros((pods, int(cells[-1]) + 1, ENGINES + 1), np.int32)
        for cells in (pad_cells, sum_cells)
    )
    writers = np.zeros(int(edges[1][-1]), np.int32)
    position, at = np.zeros(len(starts), np.int64), np.zeros(4, np.int64)
    found, index = execute(
        code, starts, used, owner, views, (tile_of, first, ranges, repeats),
        (pads, sums, pad_cells, sum_cells, writers), position, at,
    )  # fmt: skip
    if found == STUCK:
        raise _deadlock(program, position)
    if found in (RACE, UNWRITTEN, TWICE, FOREIGN):
        cells = pad_cells if at[3] == SCRATCHPAD else sum_cells
        at[1] = np.searchsorted(cells, at[1])
    elif found != FINE:
        at[1] = edge_address(*edges, int(at[1])) - bases[_operand(program, index)]
    if found != FINE:
        raise _error(program, index, _finding(program, found, at, index))
    _check_outputs(program, bases, edges, writers)


def _capacities(program: SystolicProgram, description: ArrayDescription) -> NDArray[np.int64]:
    """Words of the largest scratchpad, and of the largest accumulators."""
    pods = description.pods
    words = max(pod.scratchpad_words(program.format) for pod in pods)
    return np.array([words, max(pod.accumulator_words for pod in pods)], np.int64)


def _operand(program: SystolicProgram, index: int) -> int:
    """The tensor that instruction ``index`` names."""
    return program.views[int(program.instructions["operand"][index])].tensor


def _bases(program: SystolicProgram) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Addresses of tensors that are written, and where those in DRAM begin and end.

    Resident ones have their words in the scratchpads; those in DRAM follow each other.
    """
    bases, edges = np.full(max(1, len(program.tensors)), -1, np.int64), [0]
    for number, tensor in enumerate(program.tensors):
        if tensor.resident is not None:
            bases[number] = tensor.resident
        elif tensor.role in (Role.INTERNAL, Role.OUTPUT):
            bases[number] = edges[-1]
            edges.append(edges[-1] + tensor.elements)
    return bases, np.array(edges, np.int64)


def _resident_tiles(
    program: SystolicProgram, tile_of: NDArray[np.int32], tiles: int
) -> NDArray[np.bool_]:
    """Which tiles lie in scratchpads."""
    resident = np.array([program.tensors[v.tensor].resident is not None for v in program.views])
    users = np.flatnonzero(tile_of >= 0)
    made = np.zeros(tiles, bool)
    if len(users):
        made[tile_of[users]] = resident[program.instructions["operand"][users]]
    return made


def _largest_tile(code: NDArray[Any]) -> int:
    rows = code["rows"].astype(np.int64)
    wide = np.maximum(code["columns"], code["depth"]).astype(np.int64)
    conv = code["opcode"] == Opcode.CONV1D
    lines = (code["columns"][conv].astype(np.int64) - 1) * code["value"][conv] + code["depth"][conv]
    largest = int((rows[conv] * lines).max(initial=1))
    others = ~np.isin(code["opcode"], [Opcode.SIGNAL, Opcode.WAIT])
    return max(largest, int((rows * wide)[others].max(initial=1)))


def _finding(program: SystolicProgram, found: int, at: NDArray[np.int64], index: int) -> str:
    other, place, pod, memory = (int(value) for value in at)
    if found in (RACE, UNWRITTEN, TWICE, FOREIGN):
        name = "scratchpad" if memory == SCRATCHPAD else "accumulators"
        where = f"word {place} of the {name} of pod {pod}"
    else:
        number = _operand(program, index)
        where = f"value {place} of tensor {number} ({program.tensors[number].name!r})"
    if other < 0:
        return f"it reads {where}, which nothing wrote before: write it, or correct the address"
    named = _named(program, other)
    if found == FOREIGN:
        return (
            f"it reads {where}, where {named} has put something else: keep apart what is needed at "
            "the same time"
        )
    if found in (RACE, VALUE_RACE):
        return (
            f"{where} is also used by {named}, and nothing orders the two: add a signal behind "
            "one and a wait before the other"
        )
    if found == VALUE_TWICE and other != index:
        return f"{where} was already written by {named}: write each value once"
    return f"it writes {where} twice: correct its view or its tiles"


def _deadlock(program: SystolicProgram, position: NDArray[np.int64]) -> ProgramError:
    """The WAITs that block each other, from one queue to the next until they repeat."""
    starts, code = program.queue_starts, program.instructions
    blocked = [q for q in range(len(starts) - 1) if position[q] < starts[q + 1]
               and starts[q] < starts[q + 1]]  # fmt: skip
    path: list[int] = []
    queue = blocked[0]
    while queue not in path:
        path.append(queue)
        queue = int(code["semaphore"][position[queue]])
    circle = path[path.index(queue) :]
    waits = "; ".join(_named(program, int(position[each])) for each in circle)
    return ProgramError(
        f"array program: its queues wait for each other: {waits}: signal before waiting, or drop "
        "one wait"
    )


def _check_outputs(
    program: SystolicProgram, bases: NDArray[np.int64], edges: Edges, writers: NDArray[np.int32]
) -> None:
    for number in program.results:
        tensor = program.tensors[number]
        bounds = np.array([bases[number], bases[number] + tensor.elements], np.int64)
        begin, end = edge_numbers(*edges, bounds)
        missing = np.flatnonzero(writers[begin:end] == 0)
        if len(missing):
            value = edge_address(*edges, int(begin + missing[0])) - int(bases[number])
            raise ProgramError(
                f"array program: no store writes value {value} of the output "
                f"{tensor.name!r} (tensor {number}): store every value once"
            )
