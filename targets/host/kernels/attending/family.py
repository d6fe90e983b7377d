"""The schedule space of attention.

Knobs: ``rows`` and ``vectors`` of the tile of scores, ``block`` (tiles of queries whose scores
are kept), and ``parts`` of a head's queries that are tasks of their own; each packs the head's
keys and values for itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from motet.targets.host.kernels.attending.task import Shape
from motet.targets.host.kernels.attending.views import Operands
from motet.targets.host.kernels.tile import lanes_of, tile_shapes
from motet.targets.host.loops import constant_of
from motet.targets.host.machine import Machine
from motet.targets.host.space import Family, Nest, Point, Problem

FAMILY_NAME = "attention"
_TYPE = "float32"
_SCORE_BYTES = 12 * 1024
_BLOCKS = (4, 2, 8, 1, 16)
_PARTS = (1, 2, 4, 8)
_UNKNOWN = {"batch": 1, "heads": 8, "queries": 128, "keys": 128}


def problem_of(operands: Operands) -> Problem:
    """The problem that a call is. ``mask``: 0 none, 1 one."""
    q, k, v = operands.query, operands.key, operands.value
    known = [
        constant_of(view.extent(axis))
        for view, axis in ((q, "B"), (q, "H"), (q, "S"), (k, "S"), (q, "D"), (v, "D"))
    ]
    batch, heads, queries, keys, depth, width = (-1 if n is None else n for n in known)
    return Problem.of(
        FAMILY_NAME, batch=batch, heads=heads, queries=queries, keys=keys, depth=depth,
        width=width, mask=int(operands.mask is not None),
    )  # fmt: skip


def _size(problem: Problem, name: str) -> int:
    return problem[name] if problem[name] >= 0 else _UNKNOWN[name]


def _tiles(problem: Problem, machine: Machine) -> list[tuple[int, int]]:
    """(rows, vectors) of the tile of scores, the least padded work first."""
    lanes = lanes_of(machine, _TYPE)
    queries, keys = _size(problem, "queries"), _size(problem, "keys")
    fitting = [
        s for s in tile_shapes(machine) if problem["queries"] < 0 or s[0] <= problem["queries"]
    ]

    def cost(shape: tuple[int, int]) -> float:
        r, v = shape
        tiles = -(-queries // r) * -(-keys // (v * lanes))
        return tiles * (max(r * v, 8) + r / 3 + 1.3 * v)

    return sorted(fitting, key=cost)


def value_vectors(problem: Problem, rows: int, machine: Machine) -> int:
    """Vectors of values beside ``rows`` rows: as many as the registers hold, with the least
    padding.
    """
    lanes = lanes_of(machine, _TYPE)
    room = 32 if machine.vector_bytes == 64 else 16
    most = max(1, (room - 2) // (rows + 1))
    needed = -(-problem["width"] // lanes)
    return min(range(1, most + 1), key=lambda v: -(-needed // v) * (max(rows * v, 8) + 1.3 * v))


def _blocks(problem: Problem, rows: int) -> list[int]:
    """Tiles in a block, the best first: as many as leave room for more than scores in
    the first-level cache.
    """
    keys = _size(problem, "keys")
    tiles = -(-_size(problem, "queries") // rows)
    best = max(1, min(tiles, max(_SCORE_BYTES // (4 * keys * rows), 2)))
    return [best, *[b for b in _BLOCKS if b != best and b <= tiles]]


def _best_parts(problem: Problem, rows: int, machine: Machine) -> int:
    """The fewest parts that give all cores nearly as much to do."""
    if not is_parallel(problem, machine):
        return 1
    heads = _size(problem, "batch") * _size(problem, "heads")
    tiles = -(-_size(problem, "queries") // rows)

    def idle(parts: int) -> float:
        tasks = heads * parts
        return -(-tasks // machine.cores) * machine.cores / tasks

    fitting = [p for p in _PARTS if p <= tiles]
    return next((p for p in fitting if idle(p) <= 1.1), fitting[-1])


def is_parallel(problem: Problem, machine: Machine) -> bool:
    """Whether there is work for several cores."""
    sizes = [_size(problem, n) for n in ("batch", "heads", "queries", "keys")]
    work = problem["depth"] + problem["width"]
    for size in sizes:
        work *= size
    return machine.cores > 1 and work >= 100_000


def points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Legal points, the hand-written choice first."""
    found: dict[Point, None] = {}
    for rows, vectors in _tiles(problem, machine)[:6]:
        parts = _best_parts(problem, rows, machine)
        for block in _blocks(problem, rows)[:4]:
            found[Point.of(rows=rows, vectors=vectors, block=block, parts=parts)] = None
    return list(found)


def shape_of(problem: Problem, point: Point, machine: Machine) -> Shape:
    """The nest of ``point``."""
    return Shape(
        point["rows"], point["vectors"], value_vectors(problem, point["rows"], machine),
        point["block"], point["parts"], lanes_of(machine, _TYPE),
    )  # fmt: skip


def describe(problem: Problem, point: Point, machine: Machine) -> Nest:
    """What the nest of ``point`` does."""
    shape = shape_of(problem, point, machine)
    heads = _size(problem, "batch") * _size(problem, "heads")
    queries, keys = _size(problem, "queries"), _size(problem, "keys")
    depth, width = problem["depth"], problem["width"]
    columns = shape.vectors * shape.lanes
    padded_rows = -(-queries // shape.rows) * shape.rows
    padded_keys = -(-keys // columns) * columns
    padded_width = -(-width // shape.lanes) * shape.lanes
    tiles = -(-queries // shape.rows)
    sweeps = heads * -(-tiles // shape.block)
    operand_bytes = 4.0 * heads * keys * (depth + width)
    return Nest(
        flops=2.0 * heads * queries * keys * (depth + width),
        executed_flops=2.0 * heads * padded_rows * (padded_keys * depth + keys * padded_width),
        accumulators=shape.rows * shape.vectors, vector_loads=shape.vectors,
        broadcasts=shape.rows, steps=depth,
        inner_bytes=4.0 * depth * (columns + shape.rows * shape.block),
        block_bytes=4.0 * (keys * (depth + width) + shape.block * shape.rows * padded_keys),
        read_bytes=4.0 * heads * queries * depth + operand_bytes, weight_bytes=0.0,
        written_bytes=4.0 * heads * queries * width,
        copied_bytes=2.0 * operand_bytes * shape.parts,
        streamed_bytes=4.0 * sweeps * keys * (depth + width),
        tasks=heads * shape.parts, launches=1, lanes=shape.lanes,
    )  # fmt: skip


FAMILY = Family(FAMILY_NAME, points, describe)
