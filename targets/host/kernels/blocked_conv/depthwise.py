"""Depthwise convolution in the blocked layout: every vector lane is a channel of its own.

``kernels/window`` writes the nest: parallel over images, channel blocks and groups of output
rows; in a row a tile of ``columns`` accumulators, the taps' weights [C / block][taps][block].
With the knob ``copy`` a task first copies the rows it reads, padding included, to scratch
memory that stays in the first-level cache: for inputs that are computed as they are read, and
for small planes with wide padding. A 3x3 kernel does 9 multiply-adds for a vector that is
read and written: planes beyond the second-level cache are bound by memory, smaller ones by
the two multiply-adds per cycle. Integers of 8 or 16 bits are widened as they are read, and
summed in int32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.exprs import walk
from motet.targets.host.kernels.blocked_conv.algorithms import DEPTHWISE
from motet.targets.host.kernels.blocked_conv.request import (
    Request,
    Written,
    worth_threads,
)
from motet.targets.host.kernels.operand import Packing
from motet.targets.host.kernels.window import (
    MOST_EDGE_TILES,
    Accumulation,
    Window,
    edge_tiles,
    emit_row,
    input_rows,
    row_copy,
)  # fmt: skip
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    index,
    load,
    loop,
    nest,
    parallel,
    ramp,
    scratch,
    seq,
    simplify,
    store,
)  # fmt: skip
from motet.targets.host.machine import Machine
from motet.targets.host.space import Nest, Point, Problem

_COPY_BYTES = 24 * 1024
_PARALLEL_FLOPS = 400_000
_LIGHT_NODES = 40


def applies(problem: Problem) -> bool:
    """Whether every channel is convolved by itself, blocks in and out."""
    channels = problem["channels"]
    return (
        problem["groups"] == channels == problem["outs"] > 1
        and problem["block_in"] == problem["block_out"] == problem["block"]
    )


def _window(problem: Problem) -> Window:
    return Window(
        problem["height"], problem["width"], problem["out_height"], problem["out_width"],
        (problem["kernel_h"], problem["kernel_w"]), (problem["stride_h"], problem["stride_w"]),
        (problem["dilation_h"], problem["dilation_w"]), problem["top"], problem["left"],
    )  # fmt: skip


def _columns(window: Window, machine: Machine, block: int) -> list[int]:
    """Widths of the register tile, the best first.

    From 4 columns on (6 with more than 9 taps) the measured times differ by less than a tenth,
    so that what counts is the number of tiles in a row, and of columns that are written out.
    """
    width = window.out_width
    most = 14 if machine.vector_bytes == 64 else max(2, 8 * machine.vector_bytes // (4 * block))
    least = 4 if window.kernel[0] * window.kernel[1] <= 9 else 6
    widths = [c for c in (4, 5, 6, 7, 8, 14) if least <= c <= min(most, width)]
    if width <= most:
        widths = [width, *(c for c in widths if c != width)]

    def cost(columns: int) -> int:
        written = columns * (1 + edge_tiles(window, columns))
        return -(-width // columns) * (columns + 1) + 2 * min(written, width)

    return sorted(widths or [most], key=cost)


def _rows(problem: Problem, machine: Machine) -> int:
    """Output rows of a task: all, unless the threads would have too few tasks."""
    height = problem["out_height"]
    tasks = max(1, problem["batch"]) * problem["channels"] // problem["block"]
    wanted = 4 * machine.cores if machine.cores > 1 else 1
    return -(-height // max(1, min(-(-wanted // max(1, tasks)), height // 4)))


def _copied_rows(problem: Problem, machine: Machine) -> int:
    window = _window(problem)
    line = window.padded(1).width * problem["block"] * 4
    reach, stride = window.reach[0], window.strides[0]
    fitting = max(1, (_COPY_BYTES // max(1, line) - reach) // stride + 1)
    rows = min(_rows(problem, machine), fitting)
    return -(-problem["out_height"] // -(-problem["out_height"] // rows))


def points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Legal points, the hand-written choice first."""
    window = _window(problem)
    columns = _columns(window, machine, problem["block"])
    copied = [
        Point.of(algorithm=DEPTHWISE, columns=c, rows=_copied_rows(problem, machine), copy=1)
        for c in columns
    ]
    if problem["prologue"]:
        return copied
    rows = _rows(problem, machine)
    plain = [
        Point.of(algorithm=DEPTHWISE, columns=c, rows=r, copy=0)
        for c in columns if edge_tiles(window, c) <= MOST_EDGE_TILES
        for r in dict.fromkeys((rows, -(-rows // 2)))
    ]  # fmt: skip
    return [*plain, *copied]


def describe(problem: Problem, point: Point, machine: Machine) -> Nest:
    """What the nest of ``point`` does."""
    window, block = _window(problem), problem["block"]
    batch, blocks = max(1, problem["batch"]), problem["channels"] // block
    planes, taps = batch * blocks, window.kernel[0] * window.kernel[1]
    outputs = window.out_height * window.out_width
    flops = 2.0 * planes * block * taps * outputs
    read = 4.0 * planes * block * window.height * window.width
    groups = -(-window.out_height // point["rows"])
    lines = (point["rows"] - 1) * window.strides[0] + window.reach[0]
    copied = 4.0 * planes * block * groups * lines * window.padded(1).width
    line = 4.0 * block * window.width
    tile = (point["columns"] - 1) * window.strides[1] + window.reach[1]
    width = window.out_width
    return Nest(
        flops=flops, executed_flops=flops, accumulators=point["columns"],
        vector_loads=float(tile + window.kernel[1]), broadcasts=0.0, steps=window.kernel[0],
        inner_bytes=line * window.reach[0], block_bytes=line * lines,
        read_bytes=read, weight_bytes=4.0 * problem["channels"] * taps,
        written_bytes=4.0 * planes * block * outputs,
        copied_bytes=copied if point["copy"] else 0.0,
        streamed_bytes=read * groups * lines / max(1, window.height),
        tasks=planes * groups, launches=1, lanes=block,
        traits=(
            ("edge tiles", float(edge_tiles(window, point["columns"]))),
            ("tile fill", width / (-(-width // point["columns"]) * point["columns"])),
            ("task fill", window.out_height / (groups * point["rows"])),
        ),
    )  # fmt: skip


def _packing(block: int, dtype: str) -> Packing:
    def pack(weights: NDArray[Any]) -> NDArray[Any]:
        taps = weights.astype(dtype).reshape(weights.shape[0] // block, block, -1)
        return np.ascontiguousarray(taps.transpose(0, 2, 1))

    return pack


def _pack_at_run_time(packed: Buffer, request: Request) -> Stmt:
    conv = request.conv

    def element(c: Expr, kh: Expr, kw: Expr, v: Expr) -> Stmt:
        value = request.weights.at([c * conv.block + v, index(0), kh, kw])
        return store(packed, value.astype(packed.dtype), c, kh * conv.kernel[1] + kw, v)

    return nest("chwv", [conv.channels // conv.block, *conv.kernel, conv.block], element)


def emit(request: Request) -> Written:
    """The nest."""
    conv, dtype = request.conv, request.epilogue.anchor.output.dtype
    shape = [conv.channels // conv.block, conv.kernel[0] * conv.kernel[1], conv.block]
    packed = scratch("packed", shape, dtype)
    main = _Nest(request, packed).emit()
    if request.source is None:
        return Written(seq(allocate(packed), _pack_at_run_time(packed, request), main), None)
    axes, pack = request.source[1], _packing(conv.block, dtype)
    return Written(main, (packed, lambda weights: pack(weights.transpose(axes))))


class _Nest:
    """Writes the loops around the window's rows."""

    def __init__(self, request: Request, packed: Buffer) -> None:
        conv = request.conv
        self.request, self.packed, self.conv = request, packed, conv
        self.rows = request.point["rows"]
        self.window = Window(
            conv.height, conv.width, conv.out_height, conv.out_width, conv.kernel,
            conv.strides, conv.dilation, conv.top, conv.left,
        )  # fmt: skip
        self.dtype = request.epilogue.anchor.output.dtype

    def emit(self) -> Stmt:
        conv = self.conv
        groups = -(-conv.out_height // self.rows)
        extents = [conv.batch, conv.channels // conv.block, groups]
        several = worth_threads(self.request, _PARALLEL_FLOPS)
        return parallel(["n", "c", "rows"], extents, self._task, several)

    def _task(self, n: Expr, c: Expr, group: Expr) -> Stmt:
        first = simplify(group * self.rows)
        count = simplify(tirx.min(index(self.rows), self.conv.out_height - first))
        if self.request.point["copy"]:
            return self._copied(n, c, first, count)
        x = self.request.x.buffer

        def read(h: Expr, w: Expr) -> Expr:
            return self._widened(load(x, n, c, h, w, ramp(index(0), self.conv.block)))

        def row(r: Expr) -> Stmt:
            at = simplify(first + r)
            what = self._accumulation(n, c, index(0), read)
            return emit_row(self.window, self.request.point["columns"], what, at)

        return loop("row", count, row)

    def _copied(self, n: Expr, c: Expr, first: Expr, count: Expr) -> Stmt:
        conv, window = self.conv, self.window.padded(self.rows)
        held = str(self.request.x.buffer.dtype)
        lines = scratch("lines", [window.height, window.width, conv.block], held)

        def element(h: Expr, w: Expr, lane: Expr) -> Expr:
            return self.request.x.at([n, c, h, w, lane])

        def read(h: Expr, w: Expr) -> Expr:
            return self._widened(load(lines, h, w, ramp(index(0), conv.block)))

        zero = tirx.const(0, held)
        what = self._accumulation(n, c, first, read)
        columns = self.request.point["columns"]
        return seq(
            allocate(lines),
            row_copy(
                self.window, lines, conv.block, zero, element, first,
                input_rows(self.window, count),
            ),
            loop("row", count, lambda r: emit_row(window, columns, what, r)),
        )  # fmt: skip

    def _widened(self, vector: Expr) -> Expr:
        """A vector of the input in the type of the sums, which integers are not read in."""
        return vector.astype(f"{self.dtype}x{self.conv.block}")

    def _accumulation(self, n: Expr, c: Expr, first: Expr, read: Any) -> Accumulation:
        request, conv = self.request, self.conv

        def weight(kh: Expr, kw: int) -> Expr:
            tap = simplify(kh * conv.kernel[1] + kw)
            return load(self.packed, c, tap, ramp(index(0), conv.block))

        def finish(row: Expr, column: Expr, lane: Expr, value: Expr) -> Stmt:
            at = request.position(n, c, simplify(first + row), column, lane)
            return request.epilogue.write(value, at)

        stage = request.epilogue.stage
        heavy = stage is not None and len(walk(stage.value)) > _LIGHT_NODES
        return Accumulation(
            conv.block, self.dtype, tirx.const(0, self.dtype), read, weight,
            lambda acc, x, tap: acc + x * tap, finish, heavy,
        )  # fmt: skip
