"""Pooling in the plain layout: vectors along the width, columns of the window first.

For an output row the window's columns are reduced to a padded line, which is contiguous
whatever the stride; the line to the results at every position, and of those each
``stride``-th is picked (stride 2 with a shuffle of two vectors)::

    line[left + w] = max over kh of x[oh * stride + kh][w]        w in vectors
    every[j] = max over kw of line[j + kw * dilation]             j in vectors
    y[oh][ow] = epilogue(every[ow * stride])
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from motet.targets.host.kernels.pooling.request import Read, Request, task_statement
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.kernels.window import Window, emit_row
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    index,
    load,
    loop,
    ramp,
    round_up,
    scratch,
    seq,
    simplify,
    store,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Lines:
    """Scratch memory of a task: the line, results at every position, and those picked."""

    line: Buffer
    every: Buffer
    picked: Buffer


def plain_task(request: Request, n: Expr, c: Expr, first: Expr, count: Expr) -> Stmt:
    """``count`` output rows of a plane, from row ``first``."""
    window, lanes = request.window, request.lanes
    parts, read = request.input_of(n, c, first, count)
    stride = window.strides[1]
    results = round_up(window.out_width, lanes)
    positions = round_up((window.out_width - 1) * stride + 1, lanes)
    if stride == 2:
        positions = max(positions, 2 * results)
    length = max(positions + window.reach[1] - 1, window.left + window.width)
    every = scratch("every", [positions], request.dtype)
    lines = _Lines(
        scratch("line", [length], request.dtype), every,
        every if stride == 1 else scratch("picked", [results], request.dtype),
    )  # fmt: skip
    right = window.left + window.width
    padding = [
        vector_loop("w", extent, lanes, lambda w, at=at: store(lines.line, request.start, w + at))
        for at, extent in ((0, window.left), (right, length - right)) if extent
    ]  # fmt: skip
    buffers = [lines.line, lines.every, *([lines.picked] if stride > 1 else [])]
    return task_statement(
        [*parts, *map(allocate, buffers), *padding], count,
        lambda r: _row(request, n, c, read, lines, simplify(first + r)),
    )  # fmt: skip


def _row(request: Request, n: Expr, c: Expr, read: Read, lines: _Lines, row: Expr) -> Stmt:
    def write(w: Expr) -> Stmt:
        return request.write(load(lines.picked, w), n, c, row, w, None)

    return seq(
        *_down(request, read, lines.line, row),
        _along(request, lines),
        _pick(request, lines),
        vector_loop("w", request.window.out_width, request.lanes, write),
    )


def _down(request: Request, read: Read, line: Buffer, row: Expr) -> list[Stmt]:
    """The line from the rows of the window; the last vector may overlap the one before."""
    window, lanes = request.window, request.lanes

    def over(vectors: int, shift: int) -> Stmt:
        down = Window(
            window.height, window.width, window.out_height, vectors, (window.kernel[0], 1),
            (window.strides[0], lanes), (window.dilation[0], 1), window.top, 0,
        )  # fmt: skip

        def keep(_h: Expr, i: Expr, lane: Expr, value: Expr) -> Stmt:
            return store(line, value, simplify(i * lanes + (window.left + shift)) + lane)

        what = request.accumulation(lambda h, w: read(h, simplify(w + shift)), keep, False)
        return emit_row(down, request.point["columns"], what, row)

    rest = [over(1, window.width - lanes)] if window.width % lanes else []
    return [over(window.width // lanes, 0), *rest]


def _along(request: Request, lines: _Lines) -> Stmt:
    window, lanes = request.window, request.lanes
    length, positions = int(lines.line.shape[0]), int(lines.every.shape[0])
    along = Window(
        1, length, 1, positions // lanes, (1, window.kernel[1]), (1, lanes),
        (1, window.dilation[1]), 0, 0,
    )  # fmt: skip

    def keep(_h: Expr, i: Expr, lane: Expr, value: Expr) -> Stmt:
        return store(lines.every, value, simplify(i * lanes) + lane)

    def read(_h: Expr, w: Expr) -> Expr:
        return load(lines.line, ramp(w, lanes))

    what = request.accumulation(read, keep, False)
    return emit_row(along, request.point["columns"], what, index(0))


def _pick(request: Request, lines: _Lines) -> Stmt | None:
    stride, lanes = request.window.strides[1], request.lanes
    if stride == 1:
        return None
    if stride > 2 or lanes == 1:
        return loop(
            "w", request.window.out_width,
            lambda w: store(lines.picked, load(lines.every, w * stride), w),
        )  # fmt: skip
    even = [index(2 * v) for v in range(lanes)]

    def vector(i: Expr) -> Stmt:
        halves = [load(lines.every, ramp((2 * i + k) * lanes, lanes)) for k in (0, 1)]
        return store(lines.picked, tirx.Shuffle(halves, even), ramp(i * lanes, lanes))

    return loop("i", int(lines.picked.shape[0]) // lanes, vector)
