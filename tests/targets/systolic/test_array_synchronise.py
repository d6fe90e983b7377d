"""Every hazard of the sequential order is kept by the queues' semaphores; brute force says so."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from motet.runtime.errors import ProgramError
from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.granules import GRANULES, granule_words
from motet.targets.systolic.instructions.implied import without_implied
from motet.targets.systolic.instructions.isa import (
    ENGINE_OF,
    ENGINES,
    Flag,
    Opcode,
    empty_instructions,
)
from motet.targets.systolic.instructions.program import Role, StepInfo, Tensor
from motet.targets.systolic.instructions.synchronise import synchronise

PODS = 3
SIDE = 12
TENSORS = (
    Tensor("in", (2, SIDE, SIDE), Role.INPUT),
    Tensor("dram", (2, SIDE, SIDE), Role.INTERNAL),
    Tensor("resident", (2, SIDE, SIDE), Role.INTERNAL, resident=1024),
    Tensor("later", (2, SIDE, SIDE), Role.INTERNAL, resident=1100),
    Tensor("out", (2, SIDE, SIDE), Role.OUTPUT),
)
SHEET = SIDE * SIDE
VIEWS = tuple(
    View(i, t.shape, Loop(2, SHEET), (Loop(SIDE, SIDE),), (Loop(SIDE, 1),))
    for i, t in enumerate(TENSORS)
)


def random_sequence(rng: np.random.Generator, count: int) -> np.ndarray:
    """Loads, products and stores over small memories; tensors are written before they are read."""
    code = empty_instructions(count)
    written: dict[int, list[tuple[int, int]]] = {1: [], 2: [], 3: [], 4: []}
    stage = 1
    for i in range(count):
        if i > count * stage // 4:
            stage = min(stage + 1, 4)
        c = code[i]
        c["pod"] = rng.integers(PODS)
        c["rows"], c["columns"], c["depth"] = rng.integers(1, 5, 3)
        c["address"], c["second_address"] = rng.integers(0, 200, 2)
        c["accumulator_address"], c["third_address"] = rng.integers(0, 60, 2)
        kind = rng.choice([Opcode.LOAD, Opcode.MATMUL, Opcode.VECTOR, Opcode.STORE])
        if kind is Opcode.LOAD:
            c["operand"] = 1 if stage > 1 and written[1] and rng.integers(2) else 0
            c["target_pod"] = rng.integers(PODS)
            c["target_pods"] = rng.integers(1, PODS - c["target_pod"] + 1)
            place(c, rng)
        elif kind is Opcode.MATMUL:
            c["flags"] = rng.choice([0, Flag.ACCUMULATE, Flag.BIAS])
            readable = [t for t in (2, 3) if t < stage and written[t]]
            if readable and rng.integers(2):
                c["operand"] = rng.choice(readable[-1:])
                c["flags"] |= Flag.RESIDENT
                place(c, rng)
                c["column"] = rng.integers(0, SIDE - c["depth"] + 1)
        elif kind is Opcode.VECTOR:
            c["function"] = rng.integers(1, 12)
            c["flags"] = rng.choice([0, Flag.ACCUMULATORS])
        else:
            kind = Opcode.TRANSFER if stage in (2, 3) else Opcode.STORE
            if len(written[stage]) == 2 * (SIDE // 2) * (SIDE // 2):
                kind = Opcode.VECTOR
                c["function"] = 1
            else:
                free = [
                    (g, cell)
                    for g in range(2)
                    for cell in range((SIDE // 2) ** 2)
                    if (g, cell) not in written[stage]
                ]
                g, cell = free[rng.integers(len(free))]
                written[stage].append((g, cell))
                c["operand"], c["group"] = stage, g
                c["row"], c["column"] = 2 * (cell // (SIDE // 2)), 2 * (cell % (SIDE // 2))
                c["rows"] = c["columns"] = 2
                c["target_pod"], c["target_pods"] = 0, PODS
        c["opcode"] = kind
    return code


def place(c: np.void, rng: np.random.Generator) -> None:
    c["group"] = rng.integers(2)
    c["row"] = rng.integers(0, SIDE - c["rows"] + 1)
    c["column"] = rng.integers(0, SIDE - c["columns"] + 1)


def accesses(c: np.void) -> list[tuple[tuple[str, int], set[int], bool]]:
    """(memory, words, whether it writes), straight from the instruction set's page."""
    opcode, flags, pod = Opcode(int(c["opcode"])), Flag(int(c["flags"])), int(c["pod"])
    rows, columns, depth = int(c["rows"]), int(c["columns"]), int(c["depth"])
    targets = range(int(c["target_pod"]), int(c["target_pod"]) + int(c["target_pods"]))
    acc, third = int(c["accumulator_address"]), int(c["third_address"])
    found = []

    def tile(memory: str, at: int, start: int, size: int, writes: bool) -> None:
        found.append(((memory, at), set(range(start, start + size)), writes))

    def tensor(wide: int, writes: bool, pods: range | list[int]) -> None:
        number = int(c["operand"])
        words = {
            int(c["group"]) * SHEET + (int(c["row"]) + r) * SIDE + int(c["column"]) + k
            for r in range(rows)
            for k in range(wide)
        }
        base = TENSORS[number].resident
        if base is None:
            found.append((("tensor", number), words, writes))
        else:
            found.extend((("scratchpad", at), {base + w for w in words}, writes) for at in pods)

    if opcode is Opcode.LOAD:
        tensor(columns, False, [])
        for at in targets:
            tile("scratchpad", at, int(c["address"]), rows * columns, True)
    elif opcode is Opcode.MATMUL:
        if flags & Flag.RESIDENT:
            tensor(depth, False, [pod])
        else:
            tile("scratchpad", pod, int(c["address"]), rows * depth, False)
        tile("scratchpad", pod, int(c["second_address"]), depth * columns, False)
        if flags & Flag.BIAS:
            tile("accumulators", pod, third, columns, False)
        tile("accumulators", pod, acc, rows * columns, True)
    elif opcode is Opcode.VECTOR:
        function = int(c["function"])
        if function <= 4:
            memory = "accumulators" if flags & Flag.ACCUMULATORS else "scratchpad"
            tile(memory, pod, int(c["second_address"]), rows * columns, False)
        elif function <= 6:
            tile("accumulators", pod, third, columns, False)
        else:
            tile("accumulators", pod, third, rows, function <= 9)
        tile("accumulators", pod, acc, rows * columns, True)
    else:
        tile("accumulators", pod, acc, rows * columns, False)
        tensor(columns, True, targets)
    return found


def orders_of(program, count: int) -> np.ndarray:
    """ordered[a, b]: whether draft instruction a is complete before b starts, by the semaphores."""
    code, starts = program.instructions, program.queue_starts
    done = np.zeros((len(starts) - 1, count), bool)  # what is complete at a queue's head
    heads, values = list(starts[:-1]), [0] * (len(starts) - 1)
    snapshots: dict[tuple[int, int], np.ndarray] = {}
    ordered = np.zeros((count, count), bool)
    moved = True
    while moved:
        moved = False
        for q in range(len(starts) - 1):
            while heads[q] < starts[q + 1]:
                c = code[heads[q]]
                if c["opcode"] == Opcode.WAIT:
                    if (int(c["semaphore"]), int(c["value"])) not in snapshots:
                        break
                    done[q] |= snapshots[int(c["semaphore"]), int(c["value"])]
                elif c["opcode"] == Opcode.SIGNAL:
                    values[q] += 1
                    snapshots[q, values[q]] = done[q].copy()
                else:
                    number = int(c["step"])
                    ordered[:, number] = done[q]
                    done[q, number] = True
                heads[q] += 1
                moved = True
    assert heads == list(starts[1:]), "the queues block each other"
    return ordered


@pytest.mark.parametrize("seed", range(25))
def test_hazards_are_ordered(seed):
    rng = np.random.default_rng(seed)
    code = random_sequence(rng, 120)
    code["step"] = np.arange(len(code))  # names each instruction in what comes out
    program = synchronise(code, "fp32", TENSORS, VIEWS, (StepInfo("s", "k", 0),), PODS)
    ordered = orders_of(program, len(code))
    touched = [accesses(c) for c in code]
    for later in range(len(code)):
        for earlier in range(later):
            conflict = any(
                one[0] == other[0] and (one[2] or other[2]) and one[1] & other[1]
                for one in touched[earlier]
                for other in touched[later]
            )
            assert ordered[earlier, later] or not conflict, (code[earlier], code[later])


def test_queues_hold_their_instructions_in_order():
    code = random_sequence(np.random.default_rng(7), 200)
    code["value"] = np.arange(len(code))
    program = synchronise(code, "fp32", TENSORS, VIEWS, (), PODS)
    seen = 0
    for queue in program.queues:
        real = [c for c in queue.instructions if c["opcode"] not in (Opcode.WAIT, Opcode.SIGNAL)]
        assert all(int(c["pod"]) * ENGINES + ENGINE_OF[Opcode(c["opcode"])] == queue.number
                   for c in real)  # fmt: skip
        assert all(a["value"] < b["value"] for a, b in pairwise(real))
        seen += len(real)
    assert seen == len(code)


def test_work_on_different_memory_is_not_ordered():
    code = empty_instructions(4)
    code["opcode"] = Opcode.LOAD
    code["operand"] = 0
    code["rows"] = code["columns"] = 4
    code["pod"] = code["target_pod"] = [0, 1, 2, 0]
    program = synchronise(code, "fp32", TENSORS, VIEWS, (), PODS)
    assert len(program.instructions) == 4


def test_a_large_tile_in_a_scratchpad_leaves_the_granules_of_accumulators_fine():
    """Once, its words counted as accumulators' too, and neighbours there were ordered."""
    code = empty_instructions(3)
    code["opcode"] = Opcode.LOAD, Opcode.LOAD, Opcode.VECTOR
    code["operand"][:2] = 0
    code["rows"], code["columns"] = [400, 1, 1], [2048, 64, 64]
    code["flags"][1] = Flag.ACCUMULATORS
    code["accumulator_address"] = 0, 64, 128
    code["target_pods"][:2] = 1
    program = synchronise(code, "fp32", TENSORS, VIEWS, (), PODS)
    assert len(program.instructions) == 3


@pytest.mark.parametrize("words", [1, 16, 1023, 1024, 1025, 100_000, 2**31])
def test_granules_cover_the_memory(words):
    assert words <= granule_words(words) * GRANULES


def random_waits(rng: np.random.Generator, count: int, queues: int) -> tuple[np.ndarray, ...]:
    """Queues of instructions; pairs (instruction, an earlier one of another queue) as hazards."""
    queue = rng.integers(0, queues, count)
    pairs = []
    for i in range(count):
        for other in range(queues):
            before = np.flatnonzero(queue[:i] == other)
            if other != queue[i] and len(before) and rng.random() < 0.3:
                pairs.append((i, int(rng.choice(before[-6:]))))
    return queue, np.array(pairs, np.int64).reshape(-1, 2)


def complete_before(queue: np.ndarray, waits: np.ndarray) -> np.ndarray:
    """[a, b]: whether a is complete before b starts, by the queues and by waits alone."""
    made = np.zeros((len(queue), len(queue)), bool)
    for i in range(len(queue)):
        direct = [*np.flatnonzero(queue[:i] == queue[i])[-1:], *waits[waits[:, 0] == i, 1]]
        for other in direct:
            made[:, i] |= made[:, other]
            made[other, i] = True
    return made


@pytest.mark.parametrize("seed", range(8))
def test_only_waits_that_nothing_implies_are_kept(seed):
    rng = np.random.default_rng(seed)
    queue, waits = random_waits(rng, 80, 5)
    kept = without_implied(waits.copy(), queue)
    whole = complete_before(queue, waits)
    assert 0 < len(kept) < len(waits)
    np.testing.assert_array_equal(complete_before(queue, kept), whole)
    for i in range(len(kept)):
        fewer = complete_before(queue, np.delete(kept, i, axis=0))
        assert not fewer[kept[i, 1], kept[i, 0]], "a wait that others imply was kept"


@pytest.mark.parametrize("seed", range(3))
def test_a_small_table_of_clocks_only_keeps_more_waits(seed):
    queue, waits = random_waits(np.random.default_rng(seed), 150, 5)
    best = without_implied(waits.copy(), queue)
    kept = without_implied(waits.copy(), queue, max_words=0)
    assert len(best) < len(kept) < len(waits)
    whole = complete_before(queue, waits)
    np.testing.assert_array_equal(complete_before(queue, kept), whole)


def test_every_signal_is_waited_for():
    code = random_sequence(np.random.default_rng(3), 200)
    program = synchronise(code, "fp32", TENSORS, VIEWS, (), PODS)
    made = program.instructions
    waits, signals = (made[made["opcode"] == opcode] for opcode in (Opcode.WAIT, Opcode.SIGNAL))
    awaited = set(zip(waits["semaphore"].tolist(), waits["value"].tolist(), strict=True))
    assert len(awaited) == len(signals) > 0


@pytest.mark.parametrize(
    ("field", "value"), [("pod", PODS), ("target_pod", PODS), ("target_pods", PODS + 1)]
)
def test_a_pod_without_queues_is_refused(field, value):
    code = empty_instructions(2)
    code["opcode"] = Opcode.LOAD
    code["operand"] = 0
    code["rows"] = code["columns"] = 4
    code[field][1] = value
    with pytest.raises(ProgramError, match=rf"instruction 1 .*names pod {PODS}.*{PODS} pods"):
        synchronise(code, "fp32", TENSORS, VIEWS, (), PODS)


@pytest.mark.parametrize("opcode", [0, Opcode.WAIT, Opcode.SIGNAL, 77])
def test_a_sequence_with_semaphores_of_its_own_is_refused(opcode):
    code = empty_instructions(1)
    code["opcode"] = opcode
    with pytest.raises(ProgramError, match=r"instruction 0 .*placed here"):
        synchronise(code, "fp32", TENSORS, VIEWS, (), PODS)
