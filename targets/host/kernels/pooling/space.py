"""Pooling as a schedule space.

Knobs: ``passes``, 1 (all taps of a window at once; blocked layout only) or 2 (columns of the
window first, then rows of their results); ``columns``, accumulators of a register tile;
``rows``, output rows of a task.
"""

from __future__ import annotations

from collections.abc import Sequence

from motet.targets.host.kernels.window import MOST_EDGE_TILES, Window, edge_tiles
from motet.targets.host.loops import constant_of
from motet.targets.host.machine import Machine
from motet.targets.host.space import Family, Nest, Point, Problem
from motet.targets.host.stages import Stage

# Taps from which on two passes over a row are quicker than all taps for every output.
_TWO_PASSES = 16
_COLUMNS = (4, 6, 2)


def problem_of(anchor: Stage, height: int, width: int, item_bytes: int) -> Problem:
    """What the schedule space is looked up by; ``item_bytes`` of an accumulated element."""
    attrs = anchor.attrs
    (kernel, strides, dilation, padding) = (
        [int(v) for v in attrs[key]] for key in ("kernel", "strides", "dilation", "padding")
    )
    block = int(attrs["block"])
    batch, channels = (constant_of(a.extent) for a in anchor.spatial[:2])
    out_height, out_width = (constant_of(a.extent) or 0 for a in anchor.spatial[2:4])
    return Problem.of(
        "pool", batch=-1 if batch is None else batch,
        channels=-1 if channels is None else channels * (block or 1),
        height=height, width=width, out_height=out_height, out_width=out_width,
        kernel_h=kernel[0], kernel_w=kernel[1], stride_h=strides[0], stride_w=strides[1],
        dilation_h=dilation[0], dilation_w=dilation[1], top=padding[0], left=padding[1],
        block=block, item_bytes=item_bytes, maximum=int(str(attrs["what"]) == "max"),
    )  # fmt: skip


def window_of(problem: Problem) -> Window:
    """The window that slides over a plane."""
    return Window(
        problem["height"], problem["width"], problem["out_height"], problem["out_width"],
        (problem["kernel_h"], problem["kernel_w"]), (problem["stride_h"], problem["stride_w"]),
        (problem["dilation_h"], problem["dilation_w"]), problem["top"], problem["left"],
    )  # fmt: skip


def _planes(problem: Problem) -> int:
    return max(1, problem["batch"]) * max(1, problem["channels"] // (problem["block"] or 1))


def _rows(problem: Problem, machine: Machine) -> int:
    """Output rows of a task: all, unless the threads would have too few tasks."""
    wanted = 4 * machine.cores if machine.cores > 1 else 1
    height = problem["out_height"]
    groups = max(1, min(-(-wanted // _planes(problem)), height // 4))
    return -(-height // groups)


def points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Legal points, the hand-written choice first."""
    rows, window = _rows(problem, machine), window_of(problem)
    twice = [Point.of(passes=2, columns=c, rows=rows) for c in _COLUMNS]
    if not problem["block"]:
        return twice
    once = [
        Point.of(passes=1, columns=c, rows=rows) for c in _COLUMNS
        if edge_tiles(window, c) <= MOST_EDGE_TILES
    ]  # fmt: skip
    large = window.kernel[0] * window.kernel[1] >= _TWO_PASSES and window.strides == (1, 1)
    return [*twice, *once] if large else [*once, *twice]


def describe(problem: Problem, point: Point, machine: Machine) -> Nest:
    """What the nest of ``point`` does."""
    window, item = window_of(problem), problem["item_bytes"]
    lanes = problem["block"] or machine.vector_bytes // item
    elements = max(1, problem["batch"]) * max(1, problem["channels"])
    outputs = elements * window.out_height * window.out_width
    (kh, kw), (sh, sw) = window.kernel, window.strides
    flops = float(outputs * kh * kw)
    line = float(item * window.width * max(1, problem["block"]))
    groups = -(-window.out_height // point["rows"])
    lines = (point["rows"] - 1) * sh + window.reach[0]
    read = float(item * elements * window.height * window.width)
    two = point["passes"] == 2
    return Nest(
        flops=flops, executed_flops=outputs * float(kh * sw + kw) if two else flops,
        accumulators=point["columns"],
        vector_loads=float(point["columns"] * (1 if two else kw)), broadcasts=0.0,
        steps=float(kh + kw if two else kh), inner_bytes=line * window.reach[0],
        block_bytes=line * lines, read_bytes=read, weight_bytes=0.0,
        written_bytes=float(item * outputs),
        copied_bytes=item * elements * float(window.width * window.out_height) if two else 0.0,
        streamed_bytes=read * groups * lines / max(1, window.height),
        tasks=_planes(problem) * groups, launches=1, lanes=lanes,
    )  # fmt: skip


FAMILY = Family("pool", points, describe)
