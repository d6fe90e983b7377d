"""Pooling in the blocked layout: a vector is one position's block of channels."""

from __future__ import annotations

from motet.targets.host.kernels.pooling.request import Read, Request, task_statement
from motet.targets.host.kernels.window import Window, emit_row
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    index,
    load,
    nest,
    ramp,
    scratch,
    seq,
    simplify,
    store,
)  # fmt: skip


def blocked_task(request: Request, n: Expr, c: Expr, first: Expr, count: Expr) -> Stmt:
    """``count`` output rows of a plane, from row ``first``."""
    parts, read = request.input_of(n, c, first, count)
    if request.point["passes"] == 1:
        return task_statement(parts, count, lambda r: _once(request, n, c, read, first + r))
    window = request.window
    width = max(
        window.left + window.width,
        (window.out_width - 1) * window.strides[1] + window.reach[1],
    )
    line: Buffer = scratch("line", [width, request.block], request.dtype)

    def pad(first: int, columns: int) -> Stmt:
        return nest(
            ["w", "lane"], [columns, request.block],
            lambda w, v: store(line, request.start, w + first, v),
        )  # fmt: skip

    right = window.left + window.width
    padding = [pad(at, n) for at, n in ((0, window.left), (right, width - right)) if n]
    return task_statement(
        [*parts, allocate(line), *padding], count,
        lambda r: _twice(request, n, c, read, line, first + r),
    )  # fmt: skip


def _once(request: Request, n: Expr, c: Expr, read: Read, row: Expr) -> Stmt:
    def finish(h: Expr, w: Expr, lane: Expr, value: Expr) -> Stmt:
        return request.write(value, n, c, h, w, lane)

    what = request.accumulation(read, finish, request.heavy)
    return emit_row(request.window, request.point["columns"], what, simplify(row))


def _twice(request: Request, n: Expr, c: Expr, read: Read, line: Buffer, row: Expr) -> Stmt:
    window, columns = request.window, request.point["columns"]
    down = Window(
        window.height, window.width, window.out_height, window.width, (window.kernel[0], 1),
        (window.strides[0], 1), (window.dilation[0], 1), window.top, 0,
    )  # fmt: skip
    along = Window(
        1, int(line.shape[0]), 1, window.out_width, (1, window.kernel[1]),
        (1, window.strides[1]), (1, window.dilation[1]), 0, 0,
    )  # fmt: skip

    def keep(_h: Expr, w: Expr, lane: Expr, value: Expr) -> Stmt:
        return store(line, value, simplify(w + window.left), lane)

    def finish(_h: Expr, w: Expr, lane: Expr, value: Expr) -> Stmt:
        return request.write(value, n, c, simplify(row), w, lane)

    def read_line(_h: Expr, w: Expr) -> Expr:
        return load(line, w, ramp(index(0), request.lanes))

    return seq(
        emit_row(down, columns, request.accumulation(read, keep, False), simplify(row)),
        emit_row(along, columns, request.accumulation(read_line, finish, request.heavy), index(0)),
    )
