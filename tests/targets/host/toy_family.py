"""A schedule space whose times are known, to test what chooses from it."""

from __future__ import annotations

from collections.abc import Sequence

from motet.targets.host.machine import Machine
from motet.targets.host.space import Family, Nest, Point, Problem

MACHINE = Machine("x86-64-v3", 2, 32, ())


def points(_problem: Problem, _machine: Machine) -> Sequence[Point]:
    """Tiles of rows and vectors, an ordinary one first."""
    tiles = [(rows, vectors) for rows in (1, 2, 3, 4, 6, 8, 12) for vectors in (1, 2, 3)]
    first = (4, 1)
    return [Point.of(rows=r, vectors=v) for r, v in (first, *(t for t in tiles if t != first))]


def describe(problem: Problem, point: Point, _machine: Machine) -> Nest:
    """A matrix product's."""
    m, n, k = problem["m"], problem["n"], problem["k"]
    rows, vectors = point["rows"], point["vectors"]
    tiles = -(-m // rows) * -(-n // (8 * vectors))
    executed = 2.0 * tiles * rows * 8 * vectors * k
    return Nest(
        flops=2.0 * m * n * k, executed_flops=executed, accumulators=rows * vectors,
        vector_loads=float(vectors), broadcasts=float(rows), steps=float(k),
        inner_bytes=32.0 * vectors * k, block_bytes=4.0 * rows * k,
        read_bytes=4.0 * m * k, weight_bytes=4.0 * n * k, written_bytes=4.0 * m * n,
        copied_bytes=0.0, streamed_bytes=4.0 * tiles * k * (rows + 8 * vectors),
        tasks=tiles, launches=1, lanes=8,
    )  # fmt: skip


def seconds(problem: Problem, point: Point) -> float:
    """Tails cost what they execute; few accumulators wait, many spill."""
    nest = describe(problem, point, MACHINE)
    loads = nest.vector_loads + nest.broadcasts
    cycles = max(nest.accumulators / 2, loads / 2, 4.0)
    if nest.accumulators + nest.vector_loads > 15:
        cycles *= 1.6
    per_step = cycles / (nest.accumulators * 16)
    return 1e-7 + nest.executed_flops * per_step / 3e9


def problem(m: int, n: int, k: int) -> Problem:
    """The product of [m, k] and [k, n]."""
    return Problem.of("toy", m=m, n=n, k=k)


FAMILY = Family("toy", points, describe)
