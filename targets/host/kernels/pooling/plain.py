"""Pooling in the plain layout: vectors along the width, columns of the window first.

For a few output rows at a time the window's columns are reduced to padded lines, which are
contiguous whatever the stride; the lines, end to end, to the results at every position, and
of those each ``stride``-th is picked (stride 2 at once, with a shuffle of two vectors)::

    line[r][left + w] = max over kh of x[(oh + r) * stride + kh][w]    w in vectors
    every[j] = max over kw of line[j + kw * dilation]                  j in vectors
    y[oh + r][ow] = epilogue(every[r][ow * stride])

Several rows go through each step before the next, as a vector that is loaded across two that
were just stored waits until they have reached the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

from tvm import tirx

from motet.targets.host.kernels.pooling.request import Read, Request
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.kernels.window import Window, emit_row
from motet.targets.host.loops import (
    VECTORIZED,
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

_LINE_BYTES = 8 * 1024


@dataclass(frozen=True, eq=False)
class _Lines:
    """Scratch memory of ``rows`` output rows: the lines, ``pitch`` apart, and the results at
    every position, or every second one where ``halved``.
    """

    rows: int
    pitch: int
    halved: bool
    line: Buffer
    results: Buffer


def _lines_of(request: Request) -> _Lines:
    window, lanes, stride = request.window, request.lanes, request.window.strides[1]
    pitch = max((window.out_width - 1) * stride + window.reach[1], window.left + window.width)
    halved = stride == 2 and lanes > 1
    pitch = round_up(pitch, 2) if halved else pitch
    item = int(tirx.const(0, request.dtype).ty.dtype.bits) // 8
    fitting = max(1, min(request.point["rows"], _LINE_BYTES // (item * pitch)))
    groups = -(-request.point["rows"] // fitting)
    rows = -(-request.point["rows"] // groups)
    positions = round_up(rows * pitch, 2 * lanes)
    return _Lines(
        rows, pitch, halved, scratch("line", [positions + window.reach[1] - 1], request.dtype),
        scratch("results", [positions // 2 if halved else positions], request.dtype),
    )  # fmt: skip


def plain_task(request: Request, n: Expr, c: Expr, first: Expr, count: Expr) -> Stmt:
    """``count`` output rows of a plane, from row ``first``."""
    lines = _lines_of(request)
    parts, read = request.input_of(n, c, first, count)

    def group(g: Expr) -> Stmt:
        row = simplify(first + g * lines.rows)
        rows = simplify(tirx.min(index(lines.rows), first + count - row))
        return seq(
            loop("r", rows, lambda r: _down(request, read, lines, row, r)),
            _along(request, lines),
            loop("r", rows, lambda r: _write(request, lines, n, c, row, r)),
        )

    groups = simplify(tirx.floordiv(count + lines.rows - 1, index(lines.rows)))
    buffers = [lines.line, lines.results]
    return seq(
        *parts, *map(allocate, buffers), _padding(request, lines), loop("g", groups, group)
    )  # fmt: skip


def _padding(request: Request, lines: _Lines) -> Stmt | None:
    """Fills what no row of the input covers, and what is read beyond the last line."""
    left, right = request.window.left, request.window.left + request.window.width

    def pad(first: Expr, count: int) -> Stmt | None:
        if not count:
            return None
        return loop("w", count, lambda w: store(lines.line, request.start, first + w))

    def row(r: Expr) -> Stmt:
        at = r * lines.pitch
        return seq(pad(at, left), pad(at + right, lines.pitch - right))

    end = lines.rows * lines.pitch
    rest = pad(index(end), int(lines.line.shape[0]) - end)
    if left == 0 and right == lines.pitch:
        return rest
    return seq(loop("r", lines.rows, row), rest)


def _down(request: Request, read: Read, lines: _Lines, first: Expr, r: Expr) -> Stmt:
    """A line from the rows of the window; the last vector may overlap the one before."""
    window, lanes = request.window, request.lanes

    def over(vectors: int, shift: int) -> Stmt:
        down = Window(
            window.height, window.width, window.out_height, vectors, (window.kernel[0], 1),
            (window.strides[0], lanes), (window.dilation[0], 1), window.top, 0,
        )  # fmt: skip
        at = r * lines.pitch + (window.left + shift)

        def keep(_h: Expr, i: Expr, lane: Expr, value: Expr) -> Stmt:
            return store(lines.line, value, simplify(at + i * lanes) + lane)

        what = request.accumulation(lambda h, w: read(h, simplify(w + shift)), keep, False)
        return emit_row(down, request.point["columns"], what, simplify(first + r))

    rest = [over(1, window.width - lanes)] if window.width % lanes else []
    return seq(over(window.width // lanes, 0), *rest)


def _along(request: Request, lines: _Lines) -> Stmt:
    """The results at every position of all lines, or at every second one; and between lines
    what nobody reads.
    """
    window, lanes = request.window, request.lanes

    def result(at: Expr) -> Expr:
        taps = [
            load(lines.line, ramp(simplify(at + k * window.dilation[1]), lanes))
            for k in range(window.kernel[1])
        ]
        return reduce(request.combine, taps)

    def vector(i: Expr) -> Stmt:
        value = result(i * lanes)
        if lines.halved:
            even = [index(2 * v) for v in range(lanes)]
            value = tirx.Shuffle([result((2 * i + k) * lanes) for k in (0, 1)], even)
        return store(lines.results, value, ramp(i * lanes, lanes))

    return loop("i", int(lines.results.shape[0]) // lanes, vector)


def _write(request: Request, lines: _Lines, n: Expr, c: Expr, first: Expr, r: Expr) -> Stmt:
    step = 1 if lines.halved else request.window.strides[1]
    pitch = lines.pitch // 2 if lines.halved else lines.pitch
    row = simplify(first + r)

    def element(w: Expr) -> Stmt:
        value = load(lines.results, simplify(r * pitch + w * step))
        return request.write(value, n, c, row, w, None)

    return _narrowing(request.window.out_width, request.lanes, element)


def _narrowing(extent: int, lanes: int, body: Callable[[Expr], Stmt]) -> Stmt:
    """``body`` for all of ``extent``: vectors, and a rest of ever narrower ones."""

    def vector(first: int, width: int) -> Stmt:
        return loop("lane", width, lambda v: body(index(first) + v), VECTORIZED)

    whole = extent // lanes * lanes
    pieces = [vector_loop("w", whole, lanes, body)] if whole else []
    while whole < extent:
        lanes //= 2
        if whole + lanes <= extent:
            pieces.append(vector(whole, lanes))
            whole += lanes
    return seq(*pieces)
