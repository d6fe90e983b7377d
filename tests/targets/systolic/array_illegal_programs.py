"""Which programs of the array are illegal, by brute force, and how to break legal ones.

Happens-before is worked out for all pairs of instructions, on the plain sets of words of
``array_plain_accesses``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from array_plain_accesses import accesses

from motet.targets.systolic.instructions.isa import Opcode
from motet.targets.systolic.instructions.program import Role, SystolicProgram


def _order(program: SystolicProgram) -> tuple[list[int], bool]:
    """For every instruction the set, as bits, of those complete before it; whether all ran."""
    code, starts = program.instructions, [int(s) for s in program.queue_starts]
    at, before = starts[:-1], [0] * len(code)
    state, given = [0] * len(at), [[] for _ in at]  # type: ignore[var-annotated]
    moved = True
    while moved:
        moved = False
        for queue in range(len(at)):
            while at[queue] < starts[queue + 1]:
                i = at[queue]
                c = code[i]
                if c["opcode"] == Opcode.WAIT and c["value"]:
                    if len(given[int(c["semaphore"])]) < c["value"]:
                        break
                    state[queue] |= given[int(c["semaphore"])][int(c["value"]) - 1]
                before[i] = state[queue]
                if c["opcode"] == Opcode.SIGNAL:
                    given[queue].append(state[queue])
                state[queue] |= 1 << i
                at[queue] += 1
                moved = True
    return before, at == starts[1:]


def why_illegal(program: SystolicProgram) -> str:
    """What breaks the rules between instructions, by looking at all pairs; empty where none."""
    before, ends = _order(program)
    if not ends:
        return "deadlock"
    users: dict[tuple[tuple[str, int], int], list[tuple[int, bool]]] = {}
    of: dict[tuple[int, tuple[str, int], int, bool], int] = {}
    for i, c in enumerate(program.instructions):
        if c["opcode"] not in (Opcode.WAIT, Opcode.SIGNAL):
            held: list[int] = []
            for (place, words, writes), tensor in zip(
                accesses(program, c, held), held, strict=True
            ):
                for word in words:
                    users.setdefault((place, word), []).append((i, writes))
                    of[i, place, word, writes] = tensor
    for (place, word), uses in users.items():
        tensor = program.tensors[place[1]] if place[0] == "tensor" else None
        given = tensor is not None and tensor.role in (Role.INPUT, Role.WEIGHT)
        writers = [i for i, writes in uses if writes]
        if tensor is not None and len(writers) > 1:
            return f"{place} {word} written twice"
        for i, writes in uses:
            earlier = any(before[i] >> w & 1 for w in writers)
            if not writes and not given and not earlier:
                return f"{place} {word} read before it is written"
            past = [w for w in writers if before[i] >> w & 1]
            last = [w for w in past if not any(before[other] >> w & 1 for other in past)]
            held = of[last[0], place, word, True] if last else -1
            is_read = place[0] == "pad" and not writes
            if is_read and held not in (-1, of[i, place, word, False]):
                return f"{place} {word} holds something else"
            for w in writers:
                if w != i and not (before[i] >> w & 1 or before[w] >> i & 1):
                    return f"{place} {word}: race of {i} and {w}"
    for number in program.results:
        for value in range(program.tensors[number].elements):
            if not any(writes for _, writes in users.get((("tensor", number), value), [])):
                return f"output {number} value {value} is not written"
    return ""


def _rebuilt(program: SystolicProgram, queues: list[Any]) -> SystolicProgram:
    starts = np.cumsum([0, *(len(queue) for queue in queues)]).astype(np.int64)
    return SystolicProgram(
        program.format,
        np.concatenate(queues),
        starts,
        program.tensors,
        program.views,
        program.steps,
    )


def _without(program: SystolicProgram, opcode: Opcode, rng: np.random.Generator) -> SystolicProgram:
    """One WAIT or SIGNAL less."""
    chosen = rng.choice(np.flatnonzero(program.instructions["opcode"] == opcode))
    queues, start = [], 0
    for queue in program.queues:
        here = np.arange(start, start + len(queue.instructions))
        queues.append(queue.instructions[here != chosen])
        start += len(here)
    return _rebuilt(program, queues)


def _swapped(program: SystolicProgram, rng: np.random.Generator) -> SystolicProgram:
    """Two neighbours of a queue in the other order."""
    queues = [queue.instructions.copy() for queue in program.queues]
    long = [queue for queue in queues if len(queue) > 1]
    queue = long[int(rng.integers(len(long)))]
    i = int(rng.integers(len(queue) - 1))
    queue[[i, i + 1]] = queue[[i + 1, i]]
    return _rebuilt(program, queues)


def _changed(
    program: SystolicProgram, opcodes: tuple[Opcode, ...], fields: tuple[str, ...], rng: Any
) -> SystolicProgram:
    """One field of one instruction one more or one less."""
    code = program.instructions.copy()
    i = int(rng.choice(np.flatnonzero(np.isin(code["opcode"], [int(o) for o in opcodes]))))
    field = str(rng.choice(fields))
    code[field][i] = max(0, int(code[field][i]) + int(rng.choice([-1, 1])))
    queues = np.split(code, program.queue_starts[1:-1])
    return _rebuilt(program, queues)


def mutations(rng: np.random.Generator, program: SystolicProgram) -> Iterator[SystolicProgram]:
    """The program broken in one place, in every way; some are legal all the same."""
    yield _without(program, Opcode.WAIT, rng)
    yield _without(program, Opcode.SIGNAL, rng)
    yield _swapped(program, rng)
    yield _changed(program, (Opcode.WAIT,), ("value",), rng)
    tiles = (Opcode.LOAD, Opcode.MATMUL, Opcode.VECTOR, Opcode.STORE)
    places = ("address", "second_address", "accumulator_address", "rows", "row", "column")
    yield _changed(program, tiles, places, rng)
