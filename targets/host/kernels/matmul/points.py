"""The schedule space of matrix products.

Knobs: ``rows`` and ``vectors`` of the register tile; ``block``, rows that a task goes
through panel by panel; ``parts``, tasks into which the panels are divided; ``right``, how
the right operand is read; ``depth``, steps of the sums between which they are put aside
(``deep``), 0 where they are done at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from motet.targets.host.kernels.matmul.geometry import FAMILY_NAME
from motet.targets.host.kernels.tile import tile_shapes
from motet.targets.host.loops import round_up
from motet.targets.host.machine import Machine
from motet.targets.host.space import Nest, Point, Problem, alignment

PACKED = 0
"""In panels, made at compile time or by a copy before the product."""
IN_PLACE = 1
"""Row by row where it lies."""
PER_TASK = 2
"""In panels that every task makes for itself, one at a time."""
DOTS = 3
"""Column by column where it lies, vectors running along the sums."""

_GUESS = {"rows": 96, "columns": 256, "depth": 512}
_BLOCK_BYTES = 192 * 1024
_FEW_ROWS = 4
_NARROW_BYTES = 2048
_DEEP_BLOCK_BYTES = 256 * 1024
_LONG_DEPTH, _VERY_LONG_DEPTH = 1024, 2048
_DEEP_ROWS = 32
_SMALL_FLOPS = 1_000_000
_MOST_TILES = 5
_DOT_COLUMNS = 4


def known(problem: Problem, name: str) -> int:
    """The extent, or a guess where it is open."""
    size = problem[name]
    return _GUESS[name] if size < 0 else size


def lanes(problem: Problem, machine: Machine) -> int:
    """Accumulators in a vector."""
    return max(1, machine.vector_bytes * 8 // problem["bits"])


def _tile_cost(problem: Problem, machine: Machine, tile: tuple[int, int]) -> float:
    """Work of one step of the sums, over all tiles, in multiply-accumulates.

    Loads hide behind these, but for a little; fewer than eight accumulators do not hide the
    latency of a multiply-accumulate. A tile has some work of its own beside the sums.
    """
    r, v = tile
    width = v * lanes(problem, machine)
    tiles = -(-known(problem, "rows") // r) * -(-known(problem, "columns") // width)
    own = (r * v + 8) / max(1, known(problem, "depth"))
    return tiles * (max(r * v, 8, r + v) + 0.05 * (r + v) + own)


def _tiles(problem: Problem, machine: Machine) -> list[tuple[int, int]]:
    most = problem["rows"]
    shapes = [s for s in tile_shapes(machine) if most < 0 or s[0] <= most]
    return sorted(shapes, key=lambda s: _tile_cost(problem, machine, s))[:_MOST_TILES]


def is_parallel(problem: Problem, machine: Machine) -> bool:
    """Whether the product is worth several threads; open sizes count as large."""
    sizes = [problem[name] for name in ("batch", "rows", "columns", "depth")]
    if machine.cores == 1 or min(sizes) < 0:
        return machine.cores > 1
    flops = 2
    for size in sizes:
        flops *= size
    return flops >= _SMALL_FLOPS


def _rights(problem: Problem, machine: Machine, width: int) -> list[int]:
    """Ways to read the right operand, the preferred one first."""
    rows, columns, open_rows = problem["rows"], problem["columns"], problem["rows"] < 0
    if problem["constant"] or problem["paired"]:
        return [PACKED]
    few = 0 < rows <= _FEW_ROWS
    ways = [PER_TASK, PACKED] if _one_block(problem) else [PACKED, PER_TASK]
    if problem["transposed"] and problem["bits"] >= 32 and not open_rows and rows <= 2 * _FEW_ROWS:
        ways = [DOTS, *ways] if few else [*ways, DOTS]
    if not problem["computed"] and columns >= width:
        # Narrow rows that end in half a panel are not worth their copy.
        narrow = columns % width != 0 and columns * problem["bits"] // 8 <= _NARROW_BYTES
        ways = [IN_PLACE, *ways] if few or narrow else [*ways, IN_PLACE]
    return ways


def _one_block(problem: Problem) -> bool:
    return 0 < problem["rows"] * known(problem, "depth") * problem["bits"] // 8 <= _BLOCK_BYTES * 2


def _blocks(problem: Problem, rows: int) -> list[int]:
    """Rows of a block: those that fit the cache, evenly divided; all; a tile's."""
    depth = known(problem, "depth") * problem["bits"] // 8
    fitting = max(1, _BLOCK_BYTES // max(1, depth) // rows) * rows
    size = problem["rows"]
    if size < 0:
        return list(dict.fromkeys((fitting, 2 * rows)))
    every = round_up(max(size, 1), rows)
    count = -(-every // fitting)
    even = round_up(-(-every // count), rows)
    return list(dict.fromkeys((even, every, min(every, round_up(-(-every // (2 * count)), rows)))))


def _parts(problem: Problem, machine: Machine, block: int, width: int) -> list[int]:
    """Into how many tasks the panels are divided, so that cores share the work evenly."""
    if not is_parallel(problem, machine):
        return [1]
    panels = -(-known(problem, "columns") // width)
    tasks = max(1, problem["batch"]) * -(-known(problem, "rows") // block)
    wanted = max(1, -(-4 * machine.cores // tasks))
    return list(dict.fromkeys(min(panels, max(1, w)) for w in (wanted, 2 * wanted, 1)))


def _every(problem: Problem, machine: Machine) -> Iterator[Point]:
    for rows, vectors in _tiles(problem, machine):
        width = vectors * lanes(problem, machine)
        for block in _blocks(problem, rows):
            for parts in _parts(problem, machine, block, width)[:2]:
                for right in _rights(problem, machine, width):
                    if right == DOTS:
                        continue
                    yield Point.of(rows=rows, vectors=vectors, block=block, parts=parts,
                                   right=right, depth=0)  # fmt: skip


def _deep(problem: Problem, machine: Machine) -> Iterator[Point]:
    """Points for sums so long that rows of the left operand overflow the cache."""
    depth = problem["depth"]
    if depth < _LONG_DEPTH or min(problem["rows"], problem["columns"]) < _DEEP_ROWS:
        return
    for rows, vectors in _tiles(problem, machine)[:3]:
        width = vectors * lanes(problem, machine)
        for wanted in (512, 384, 768):
            part = -(-depth // -(-depth // wanted))
            fitting = max(1, _DEEP_BLOCK_BYTES * 8 // problem["bits"] // part // rows) * rows
            every = round_up(problem["rows"], rows)
            block = round_up(-(-every // -(-every // fitting)), rows)
            parts = _parts(problem, machine, block, width)[0]
            yield Point.of(rows=rows, vectors=vectors, block=block, parts=parts,
                           right=PACKED, depth=part)  # fmt: skip


def _dots(problem: Problem, machine: Machine) -> list[Point]:
    if DOTS not in _rights(problem, machine, 1):
        return []
    rows = min(problem["rows"], _FEW_ROWS)
    wide = [c for c in (_DOT_COLUMNS, 2) if rows * c <= 12]
    return [
        Point.of(rows=rows, vectors=c, block=problem["rows"],
                 parts=_parts(problem, machine, problem["rows"], c)[0], right=DOTS, depth=0)
        for c in wide
    ]  # fmt: skip


def points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Every point is legal; the first is the hand-written choice."""
    deep, plain = list(_deep(problem, machine)), list(_every(problem, machine))
    longest = problem["depth"] >= _VERY_LONG_DEPTH
    plain = list(dict.fromkeys([*deep, *plain] if longest else [*plain, *deep]))
    dots = _dots(problem, machine)
    first_dots = bool(dots) and 0 < problem["rows"] <= _FEW_ROWS
    return [*dots, *plain] if first_dots else [*plain, *dots]


def describe(problem: Problem, point: Point, machine: Machine) -> Nest:
    """What the nest of ``point`` does; open extents at their guess."""
    assert problem.family == FAMILY_NAME
    batch, width = max(1, problem["batch"]), lanes(problem, machine)
    m, n, k = (known(problem, name) for name in ("rows", "columns", "depth"))
    size = problem["bits"] // 8
    r, v = point["rows"], point["vectors"]
    dots = point["right"] == DOTS
    columns = v if dots else v * width
    row_tiles, panels = -(-m // r), -(-n // columns)
    blocks = -(-m // max(1, point["block"]))
    tiles = batch * row_tiles * panels
    steps = -(-k // width) if dots else k
    copies = {PACKED: 0 if problem["constant"] else 1, PER_TASK: blocks}.get(point["right"], 0)
    return Nest(
        flops=2.0 * batch * m * n * k,
        executed_flops=2.0 * tiles * steps * r * v * width,
        accumulators=r * v,
        vector_loads=float(v + r if dots else v),
        broadcasts=0.0 if dots else float(r),
        steps=float(tiles * steps),
        inner_bytes=float(size * k * (columns + r)),
        block_bytes=float(size * k * (min(m, point["block"]) + columns)),
        read_bytes=float(size * batch * k * (m + (0 if problem["constant"] else n))),
        weight_bytes=float(size * k * n if problem["constant"] else 0),
        written_bytes=float(size * batch * m * n),
        copied_bytes=float(2 * size * batch * k * n * copies),
        streamed_bytes=float(size * tiles * k * (columns + r)),
        tasks=batch * blocks * (point["parts"] if is_parallel(problem, machine) else 1),
        launches=int(is_parallel(problem, machine)) * (2 if copies and point["right"] == PACKED
                                                       else 1),
        lanes=width,
        traits=(
            ("row fill", m / (row_tiles * r)), ("column fill", n / (panels * columns)),
            ("panels", float(panels)), ("blocks", float(blocks)),
            ("least part", panels // point["parts"] / -(-panels // point["parts"])),
            ("rows apart", alignment(size * k)), ("columns apart", alignment(size * n)),
            ("deep", float(point["depth"] > 0)),
        ),
        cycles=0.0 if dots else batch * k * _tile_cost(problem, machine, (r, v)) / 2,
    )  # fmt: skip
