"""The schedule space of direct convolution: its legal points, and what each of them does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from math import log2

from motet.targets.host.kernels.blocked_conv.algorithms import DIRECT
from motet.targets.host.kernels.blocked_conv.direct_plan import (
    DirectPlan,
    Sizes,
    ceil_div,
    make_plan,
    must_copy,
)
from motet.targets.host.machine import Machine
from motet.targets.host.space import Nest, Point, Problem, alignment

_FIRST_LEVEL = 28 * 1024
_SECOND_LEVEL = 512 * 1024
_INPUT_MOST = 0.6 * _SECOND_LEVEL
# Cycles that a byte from the second-level cache and one from beyond it cost, beside the
# arithmetic that goes on meanwhile; and a vector's copy.
_SECOND_LEVEL_CYCLES = 0.005
_FAR_CYCLES = 0.04
_COPY_CYCLES = 2.0
_MOST_POINTS = 32
# A panel's weights that stay in the first-level cache while a task's positions pass by.
_PANEL_BYTES = 20 * 1024
# Input of a task that stays in the second-level cache.
_INPUT_BYTES = 192 * 1024


def tile_shapes(machine: Machine) -> tuple[tuple[int, int], ...]:
    """(columns, blocks) of register tiles: 16 registers, 32 with AVX-512."""
    if machine.vector_bytes == 64:
        return (
            (14, 2), (9, 3), (6, 4), (5, 5), (4, 6), (7, 3), (12, 2), (8, 3), (28, 1), (4, 4),
            (7, 2), (14, 1), (2, 12), (1, 24), (1, 8),
        )  # fmt: skip
    if machine.vector_bytes == 16:
        return (4, 2), (3, 3), (2, 4), (8, 1), (1, 8)
    return (
        (6, 2), (4, 3), (3, 4), (2, 6), (2, 5), (5, 2), (4, 2), (3, 3), (12, 1), (8, 1), (1, 12),
        (1, 8),
    )  # fmt: skip


def _rows(problem: Sizes, plan: DirectPlan) -> list[int]:
    """Lines of a task: as many as the second-level cache holds the input of, and fewer."""
    pitch = plan.in_blocks * plan.in_block * 4 * plan.width
    if not plan.flat:
        pitch *= problem["stride_h"] * problem["stride_w"]
    fitting = max(1, min(plan.lines, _INPUT_BYTES // pitch))
    blocks = ceil_div(plan.lines, fitting)
    counts = {max(1, blocks // 2), blocks, 2 * blocks, 4 * blocks}
    near = _FIRST_LEVEL // 2 // pitch
    if near * plan.width >= 8 * plan.columns:
        counts.add(ceil_div(plan.lines, near))
    sizes = {ceil_div(plan.lines, k) for k in counts}
    if plan.width == 1:
        sizes = {min(plan.lines, ceil_div(s, plan.columns) * plan.columns) for s in sizes}
    return sorted(sizes, reverse=True)


def _panels(problem: Sizes, plan: DirectPlan, machine: Machine) -> list[int]:
    """Panels of a task: all, or so few that there are tasks for every core."""
    tasks = max(1, problem["batch"]) * problem["groups"] * plan.row_blocks
    wanted = 4 * machine.cores if machine.cores > 1 else 1
    parts = min(plan.panels, max(1, ceil_div(wanted, tasks)))
    fewer = max(1, parts // 2)
    return sorted({plan.panels, ceil_div(plan.panels, fewer), ceil_div(plan.panels, parts)})


def _splits(problem: Sizes, plan: DirectPlan) -> list[int]:
    taps = problem["kernel_h"] * problem["kernel_w"]
    block_bytes = 4 * taps * plan.in_block * plan.blocks * plan.lanes
    fitting = max(1, min(plan.in_blocks, _PANEL_BYTES // block_bytes))
    chunks = ceil_div(plan.in_blocks, fitting)
    return sorted({plan.in_blocks, ceil_div(plan.in_blocks, chunks)})


def _shapes(problem: Sizes, machine: Machine) -> list[tuple[int, int]]:
    """Tile shapes no wider than a group's output blocks."""
    most = ceil_div(problem["outs"] // problem["groups"], problem["block"])
    narrowed = ((columns, min(blocks, most)) for columns, blocks in tile_shapes(machine))
    return list(dict.fromkeys(narrowed))


def _every(problem: Sizes, machine: Machine) -> Iterator[Point]:
    copies = (1,) if must_copy(problem) else (0, 1)
    for (columns, blocks), copy in itertools.product(_shapes(problem, machine), copies):
        knobs = {"algorithm": DIRECT, "columns": columns, "blocks": blocks, "copy": copy}
        probe = make_plan(problem, Point.of(rows=10**9, panels=1, split=1, **knobs))
        for rows, split in itertools.product(_rows(problem, probe), _splits(problem, probe)):
            point = Point.of(rows=rows, panels=1, split=split, **knobs)
            for panels in _panels(problem, make_plan(problem, point), machine):
                yield Point.of(rows=rows, panels=panels, split=split, **knobs)


def _cost(problem: Sizes, point: Point, machine: Machine) -> float:
    """The hand-written choice is the point of the least cost: cycles, as far as can be told."""
    plan = make_plan(problem, point)
    images = max(1, problem["batch"]) * problem["groups"]
    tasks = images * plan.parts * plan.row_blocks
    rounds = ceil_div(tasks, machine.cores) * machine.cores / tasks
    # A core that is late holds up the others the longer, the larger its tasks are.
    rounds += 0.15 * (machine.cores - 1) / tasks
    return (_compute(problem, plan) + _traffic(problem, plan)) * images * rounds


def _tiles(plan: DirectPlan) -> int:
    """Register tiles of one image, group and panel."""
    whole, rest = divmod(plan.lines, plan.rows)
    return whole * plan.tiles + ceil_div(rest * plan.width, plan.columns)


def _compute(problem: Sizes, plan: DirectPlan) -> float:
    """Cycles of one image's and group's register tiles: two multiply-accumulates, or two
    loads, a cycle; fewer than eight accumulators wait for each other.
    """
    c, b = plan.columns, plan.blocks
    steps = plan.in_blocks * plan.in_block * problem["kernel_h"] * problem["kernel_w"]
    step = max(c * b / 2, 4.0, 0.51 * (c + b)) * (1 + 0.02 * max(0, b - 2)) + 0.03 * (c + b)
    # Measured: what begins and ends a tile hardly overlaps with its neighbours where tiles
    # are large, or hold many output blocks.
    ends = c * b + 0.06 * (c * b) ** 2 + 8 * max(0, b - 2)
    return _tiles(plan) * plan.panels * (steps * step + plan.chunks * ends)


def _traffic(problem: Sizes, plan: DirectPlan) -> float:
    """Cycles that one image and group wait for memory beyond the first-level cache."""
    taps = problem["kernel_h"] * problem["kernel_w"]
    ic = plan.in_blocks * plan.in_block
    panel = 4.0 * ic * taps * plan.blocks * plan.lanes
    resident = panel * plan.split / plan.in_blocks <= _FIRST_LEVEL
    cycles = 0.0 if resident else _tiles(plan) * plan.panels * panel * _SECOND_LEVEL_CYCLES
    # Every task reads its weights anew, from afar where they do not stay near.
    far = panel * plan.panels_per_task > _SECOND_LEVEL / 2
    weights = panel * plan.panels * plan.row_blocks
    cycles += weights * (_FAR_CYCLES if far else _SECOND_LEVEL_CYCLES)
    # Every panel reads the task's input; a line of the cache also holds positions that a
    # stride leaves out.
    touched = 4.0 * ic * plan.rows * plan.width
    if not plan.flat:
        touched *= problem["stride_w"] * (1 if plan.in_place else problem["stride_h"])
    if touched > _FIRST_LEVEL / 2:
        near = _SECOND_LEVEL_CYCLES if touched <= _INPUT_MOST else _FAR_CYCLES
        cycles += touched * plan.row_blocks * plan.panels * near
    if not plan.in_place:
        copied = ic * plan.input_rows * plan.input_width * plan.row_blocks * plan.parts
        skipping = plan.flat and problem["stride_w"] > 1
        cycles += (3 if skipping else 1) * _COPY_CYCLES * copied / plan.lanes
    return cycles


def points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Legal points, the hand-written choice first."""
    sizes = dict(problem.sizes)
    every = dict.fromkeys(_every(sizes, machine))
    return tuple(sorted(every, key=lambda p: _cost(sizes, p, machine))[:_MOST_POINTS])


def describe(problem: Problem, point: Point, machine: Machine) -> Nest:
    """What the nest of ``point`` does."""
    p = dict(problem.sizes)
    plan, taps = make_plan(p, point), p["kernel_h"] * p["kernel_w"]
    images = max(1, p["batch"])
    ic = plan.in_blocks * plan.in_block
    width = plan.blocks * plan.lanes
    tiles = images * p["groups"] * plan.panels * _tiles(plan)
    tasks = images * p["groups"] * plan.parts * plan.row_blocks
    padded = 4.0 * ic * plan.input_rows * plan.input_width
    copied = 0.0 if plan.in_place else padded * tasks
    panel = 4.0 * ic * taps * width
    positions = p["out_height"] * p["out_width"]
    outputs = images * positions * p["outs"]
    flops = 2.0 * outputs * ic * taps
    return Nest(
        flops=flops,
        executed_flops=2.0 * tiles * plan.columns * width * ic * taps,
        accumulators=plan.columns * plan.blocks,
        vector_loads=plan.blocks, broadcasts=plan.columns, steps=plan.split * plan.in_block * taps,
        inner_bytes=panel * plan.split / plan.in_blocks,
        block_bytes=padded / (plan.row_blocks if plan.in_place else 1)
        + panel * plan.panels_per_task,
        read_bytes=4.0 * images * p["channels"] * p["height"] * p["width"],
        weight_bytes=panel * plan.panels * p["groups"],
        written_bytes=4.0 * outputs,
        copied_bytes=copied + 8.0 * tiles * plan.columns * width * (plan.chunks - 1),
        streamed_bytes=4.0 * tiles * ic * taps * (plan.columns + width),
        tasks=tasks,
        launches=1 if p["constant"] else 2,
        lanes=plan.lanes,
        traits=_traits(p, plan),
        cycles=(_compute(p, plan) + _traffic(p, plan)) * images * p["groups"],
    )  # fmt: skip


def _traits(problem: Sizes, plan: DirectPlan) -> tuple[tuple[str, float], ...]:
    """What tails leave unused, how inputs are addressed, and where they and weights lie."""
    taps = problem["kernel_h"] * problem["kernel_w"]
    ic = plan.in_blocks * plan.in_block
    weights = 4 * ic * taps * plan.blocks * plan.lanes * plan.panels_per_task
    plane = 4 * plan.input_rows * plan.input_width * plan.in_block
    return (
        ("panel fill", plan.out_blocks / (plan.panels * plan.blocks)),
        ("tile fill", plan.positions / (plan.tiles * plan.columns)),
        ("task fill", plan.lines / (plan.row_blocks * plan.rows)),
        ("positions", log2(plan.positions)),
        ("chunks", float(plan.chunks)),
        ("adjacent", float(plan.adjacent)),
        ("ragged", float(plan.ragged)),
        ("prefetches", float(plan.prefetches(taps))),
        ("task weights", log2(weights)),
        ("task input", log2(4 * ic * plan.rows * plan.width)),
        ("aligned planes", alignment(plane)),
        ("sums", float(plan.chunks > 1 or plan.plain_output)),
    )
