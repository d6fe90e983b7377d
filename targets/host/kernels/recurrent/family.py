"""The schedule space of recurrences.

Knobs: ``vectors`` of a gate in a block, ``rows`` (sequences whose states meet a weight while
it is in a register), and ``split``, what is parallel: nothing, the blocks of a step, or the
sequences of a batch, each with all its steps.
"""

from __future__ import annotations

from collections.abc import Sequence

from motet.targets.host.loops import Expr, constant_of
from motet.targets.host.machine import Machine
from motet.targets.host.space import Family, Nest, Point, Problem
from motet.targets.operators.recurrence import GATES, Recurrence

FAMILY_NAME = "recurrence"
SERIAL, BLOCKS, SEQUENCES = 0, 1, 2

# Multiply-accumulates of a step below which a launch for it costs more than it saves.
PARALLEL_STEP = 60_000
_CELLS = ("LSTM", "GRU", "RNN")
_UNKNOWN_STEPS, _UNKNOWN_BATCH = 32, 1


def problem_of(what: Recurrence, steps: Expr, batch: Expr, hidden: int, bits: int) -> Problem:
    """The problem that a recurrence is; ``together``: gates of its largest phase."""
    sizes = [constant_of(size) for size in (steps, batch)]
    together = 2 if what.cell == "GRU" and not what.linear_before_reset else GATES[what.cell]
    return Problem.of(
        FAMILY_NAME, steps=-1 if sizes[0] is None else sizes[0],
        batch=-1 if sizes[1] is None else sizes[1], hidden=hidden, gates=GATES[what.cell],
        together=together, lengths=int("lengths" in what.operands), bits=bits,
    )  # fmt: skip


def _lanes(problem: Problem, machine: Machine) -> int:
    """Elements of a vector, no more than the state has."""
    lanes = machine.vector_bytes * 8 // problem["bits"]
    while lanes > problem["hidden"]:
        lanes //= 2
    return lanes


def width_of(problem: Problem, point: Point, machine: Machine) -> int:
    """Elements of the state in a block."""
    return point["vectors"] * _lanes(problem, machine)


def _tiles(problem: Problem, machine: Machine) -> list[tuple[int, int]]:
    """(rows, vectors) whose accumulators fit the registers, the best first."""
    room = 12 if machine.vector_bytes < 64 else 24
    batch = 1 if problem["lengths"] else problem["batch"]
    most = room if batch < 0 else max(1, batch)
    lanes, together, hidden = _lanes(problem, machine), problem["together"], problem["hidden"]
    shapes = [
        (rows, vectors)
        for rows in (1, 2, 3, 4, 6, 8) for vectors in (1, 2, 3, 4, 6, 8, 12)
        if rows <= most and rows * vectors * together <= room and vectors * lanes <= hidden
    ]  # fmt: skip

    def cost(shape: tuple[int, int]) -> float:
        rows, vectors = shape
        blocks = -(-hidden // (vectors * lanes))
        sums = rows * vectors * together
        tiles = -(-max(batch, 2) // rows) if batch != 1 else 1
        # As many cycles as vectors come from the second-level cache, at least what eight sums
        # in flight take.
        return blocks * tiles * (max(sums, 8) / 2 + vectors * together + rows / 3)

    return sorted(shapes, key=cost) or [(1, 1)]


def _splits(problem: Problem, machine: Machine) -> list[int]:
    """What may be parallel, the best first."""
    batch = abs(problem["batch"])
    work = problem["hidden"] ** 2 * problem["gates"] * (1 if problem["lengths"] else batch)
    if machine.cores == 1:
        return [SERIAL]
    best = BLOCKS if work >= PARALLEL_STEP else SERIAL
    if not problem["lengths"]:
        return [best, BLOCKS + SERIAL - best]
    by_sequence = problem["batch"] < 0 or problem["batch"] >= machine.cores
    order = [SEQUENCES, best] if by_sequence else [best, SEQUENCES]
    return [*order, BLOCKS + SERIAL - best]


def points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Every legal point, the hand-written choice first."""
    return [
        Point.of(rows=rows, vectors=vectors, split=split)
        for split in _splits(problem, machine) for rows, vectors in _tiles(problem, machine)
    ]  # fmt: skip


def describe(problem: Problem, point: Point, machine: Machine) -> Nest:
    """What the nest of ``point`` does."""
    width, rows = width_of(problem, point, machine), point["rows"]
    hidden, gates, together = (problem[name] for name in ("hidden", "gates", "together"))
    steps = problem["steps"] if problem["steps"] >= 0 else _UNKNOWN_STEPS
    batch = problem["batch"] if problem["batch"] >= 0 else _UNKNOWN_BATCH
    size, blocks, tiles = problem["bits"] // 8, -(-hidden // width), -(-batch // rows)
    phases = 1 if together == gates else 2
    weights = blocks * width * hidden * gates * size
    flops = 2.0 * steps * batch * hidden * hidden * gates
    tasks = {SERIAL: 1, BLOCKS: blocks * tiles, SEQUENCES: batch}[point["split"]]
    launches = {SERIAL: 0, BLOCKS: steps * phases, SEQUENCES: 1}[point["split"]]
    return Nest(
        flops=flops, executed_flops=flops * blocks * width / hidden * tiles * rows / max(batch, 1),
        accumulators=rows * point["vectors"] * together,
        vector_loads=point["vectors"] * together, broadcasts=rows, steps=hidden,
        inner_bytes=rows * hidden * size, block_bytes=hidden * together * width * size,
        read_bytes=steps * batch * hidden * gates * size, weight_bytes=weights,
        written_bytes=steps * batch * hidden * size, copied_bytes=2.0 * batch * hidden * size,
        streamed_bytes=float(steps * tiles * weights), tasks=tasks, launches=launches,
        lanes=_lanes(problem, machine),
    )  # fmt: skip


FAMILY = Family(FAMILY_NAME, points, describe)
