"""Windows that slide over planes of channel blocks: depthwise convolution and pooling.

A vector is one position's block of channels. A register tile is a few neighbouring columns of
one output row, an accumulator for each::

    for oh in rows:
        for tiles of output columns:
            acc[t] = start
            for kh that lie in the input, for kw:
                acc[t] = combine(acc[t], x[oh * stride + kh * dilation - top][...], tap(kh, kw))
            output[oh][ow + t] = finish(acc[t])

No element is tested for lying in the padding: rows of the window are a range that follows from
the output row, and the tiles at the left and right edge are written apart, each column with
the taps that it has. Rows whose whole window lies in the input have their taps written out
as far as code size allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tvm import tirx

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
    scratch,
    seq,
    simplify,
    store,
)  # fmt: skip

# Combinations of one tile that are written out, not looped over.
_UNROLLED = 100
# Tiles at the edges that are written out; a plane with more of them is copied with its padding.
MOST_EDGE_TILES = 4


@dataclass(frozen=True)
class Window:
    """Where outputs of a plane read; pairs are (vertical, horizontal)."""

    height: int
    width: int
    out_height: int
    out_width: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    top: int
    left: int

    def _inside(self, axis: int) -> tuple[int, int]:
        """Outputs along ``axis`` whose whole window lies in the input: first, end."""
        size, count, before = (
            (self.height, self.out_height, self.top)
            if axis == 0
            else (self.width, self.out_width, self.left)
        )
        stride, reach = self.strides[axis], (self.kernel[axis] - 1) * self.dilation[axis]
        first = min(-(-before // stride), count)
        end = (size - 1 + before - reach) // stride + 1
        return first, max(first, min(end, count))

    @property
    def whole_rows(self) -> tuple[int, int]:
        """Output rows, first and end, that read no padding above or below."""
        return self._inside(0)

    @property
    def whole_columns(self) -> tuple[int, int]:
        """Output columns, first and end, that read no padding to the left or right."""
        return self._inside(1)

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns that one window spans."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return (kh - 1) * dh + 1, (kw - 1) * dw + 1

    def taps_of_column(self, column: int) -> range:
        """Horizontal taps of an output column that lie in the input."""
        return _taps(column * self.strides[1] - self.left, self.width, self.kernel[1],
                     self.dilation[1])  # fmt: skip

    def taps_of_row(self, row: Expr) -> tuple[Expr, Expr]:
        """The first vertical tap of an output row that lies in the input, and how many do."""
        start = row * self.strides[0] - self.top
        step, taps = self.dilation[0], self.kernel[0]
        first = tirx.max(tirx.floordiv(index(step - 1) - start, index(step)), index(0))
        end = tirx.min(tirx.floordiv(index(self.height - 1 + step) - start, index(step)), taps)
        return simplify(first), simplify(tirx.max(end - first, index(0)))

    def padded(self, rows: int) -> Window:
        """The window over a copy of the input that holds ``rows`` output rows' padding too."""
        reach = self.reach
        return replace(
            self, top=0, left=0, out_height=rows,
            height=(rows - 1) * self.strides[0] + reach[0],
            width=(self.out_width - 1) * self.strides[1] + reach[1],
        )  # fmt: skip


def _taps(start: int, size: int, taps: int, step: int) -> range:
    inside = [k for k in range(taps) if 0 <= start + k * step < size]
    return range(inside[0], inside[-1] + 1) if inside else range(0)


@dataclass(frozen=True, eq=False)
class Accumulation:
    """What is accumulated over a window, in vectors of ``lanes`` channels.

    start: one lane's first value. read: the vector at an input row and column. tap: what the
    vertical and horizontal tap contribute (a weight), bound once for all columns. combine:
    the next accumulator of (accumulator, read, tap). finish: stores the lane of a (row,
    column, lane) whose accumulated value is given last; called within a vector. heavy: whether
    ``finish`` is so long that it is better written once than for every column.
    """

    lanes: int
    dtype: str
    start: Expr
    read: Callable[[Expr, Expr], Expr]
    tap: Callable[[Expr, int], Expr] | None
    combine: Callable[[Expr, Expr, Expr], Expr]
    finish: Callable[[Expr, Expr, Expr, Expr], Stmt]
    heavy: bool = False


def edge_tiles(window: Window, columns: int) -> int:
    """Tiles of a row that are written apart."""
    first, end = _looped(window, columns)
    return first + -(-window.out_width // columns) - end


def _looped(window: Window, columns: int) -> tuple[int, int]:
    """The tiles, first and end, of which every column has its whole window."""
    first, end = window.whole_columns
    first = -(-first // columns)
    return first, max(first, end // columns)


def emit_row(window: Window, columns: int, what: Accumulation, row: Expr) -> Stmt:
    """All outputs of the output row ``row``, ``columns`` of them at a time."""
    small = columns * window.kernel[0] * window.kernel[1] <= _UNROLLED
    (first, end), count = window.whole_rows, window.out_height
    looped = _Row(window, columns, what, row, False)
    if not small or first == end:
        return looped.emit()
    whole = _Row(window, columns, what, row, True)
    if (first, end) == (0, count):
        return whole.emit()
    inside = tirx.all(row >= first, row < end)
    return tirx.IfThenElse(inside, whole.emit(), looped.emit())


@dataclass(frozen=True, eq=False)
class _Row:
    """One output row; ``whole``: all its vertical taps lie in the input, and are written out."""

    window: Window
    columns: int
    what: Accumulation
    row: Expr
    whole: bool

    def emit(self) -> Stmt:
        width, columns = self.window.out_width, self.columns
        first, end = _looped(self.window, columns)
        starts = [k * columns for k in range(-(-width // columns))]
        apart = [s for s in starts if not first * columns <= s < end * columns]
        before, after = (
            [s for s in apart if s < first * columns],
            [s for s in apart if s >= end * columns],
        )

        def edge(start: int) -> Stmt:
            return self._tile(index(start), start, min(columns, width - start))

        main = None
        if end > first:
            main = loop(
                "tile", end - first,
                lambda k: self._tile(simplify((k + first) * columns), None, columns),
            )  # fmt: skip
        return seq(*map(edge, before), main, *map(edge, after))

    def _tile(self, start: Expr, known: int | None, columns: int) -> Stmt:
        what, lanes = self.what, self.what.lanes
        acc = scratch("acc", [columns * lanes], what.dtype)
        zero = what.start if lanes == 1 else tirx.Broadcast(what.start, lanes)
        taps = [
            range(self.window.kernel[1]) if known is None
            else self.window.taps_of_column(known + t)
            for t in range(columns)
        ]  # fmt: skip

        def taps_at(kh: Expr) -> Stmt:
            return self._taps(acc, start, kh, taps)

        return seq(
            allocate(acc),
            *[store(acc, zero, ramp(index(t * lanes), lanes)) for t in range(columns)],
            self._vertical(taps_at),
            self._finish(acc, start, columns),
        )

    def _vertical(self, body: Callable[[Expr], Stmt]) -> Stmt:
        if self.whole:
            return seq(*[body(index(k)) for k in range(self.window.kernel[0])])
        first, count = self.window.taps_of_row(self.row)
        return loop("kh", count, lambda k: body(first + k))

    def _taps(self, acc: Buffer, start: Expr, kh: Expr, taps: Sequence[range]) -> Stmt:
        window, what = self.window, self.what
        h = simplify(self.row * window.strides[0] + kh * window.dilation[0] - window.top)
        statements: list[Stmt] = []
        for kw in range(window.kernel[1]):
            having = [t for t, own in enumerate(taps) if kw in own]
            weight = None
            if what.tap is not None and having:
                value = what.tap(kh, kw)
                weight = tirx.Var("tap", value.ty)
                statements.append(tirx.Bind(weight, value))
            for t in having:
                w = (start + t) * window.strides[1] + (kw * window.dilation[1] - window.left)
                lane = ramp(index(t * what.lanes), what.lanes)
                value = what.combine(load(acc, lane), what.read(h, simplify(w)), weight)
                statements.append(store(acc, value, lane))
        return seq(*statements) if statements else tirx.Evaluate(0)

    def _finish(self, acc: Buffer, start: Expr, columns: int) -> Stmt:
        lanes = self.what.lanes

        def column(source: Buffer, t: Expr) -> Stmt:
            def lane(v: Expr) -> Stmt:
                value = load(source, t * lanes + v)
                return self.what.finish(self.row, simplify(start + t), v, value)

            return loop("lane", lanes, lane, VECTORIZED)

        if not self.what.heavy or columns == 1:
            return seq(*[column(acc, index(t)) for t in range(columns)])
        done = scratch("done", [columns * lanes], self.what.dtype)
        lane = [ramp(index(t * lanes), lanes) for t in range(columns)]
        return seq(
            allocate(done),
            *[store(done, load(acc, at), at) for at in lane],
            loop("t", columns, lambda t: column(done, t)),
        )


def row_copy(
    window: Window, target: Buffer, lanes: int, pad: Expr,
    read: Callable[[Expr, Expr, Expr], Expr], first_row: Expr, rows: Expr,
) -> Stmt:  # fmt: skip
    """Fills ``target`` [rows][width][lanes] with the input that output rows from ``first_row``
    read, padding included; ``read`` gives the element at an input row, column and lane.
    """
    padded = window.padded(1)
    left = window.left
    middle = max(0, min(window.width, padded.width - left))

    def span(at: Expr, first: int, count: int, value: Callable[[Expr, Expr], Expr]) -> Stmt | None:
        if count <= 0:
            return None

        def column(w: Expr) -> Stmt:
            def lane(v: Expr) -> Stmt:
                return store(target, value(w, v), at, simplify(w + first), v)

            return loop("lane", lanes, lane, VECTORIZED)

        return loop("w", count, column)

    def row(r: Expr) -> Stmt:
        h = simplify(first_row * window.strides[0] - window.top + r)
        inside = seq(
            span(r, 0, min(left, padded.width), lambda _w, _v: pad),
            span(r, left, middle, lambda w, v: read(h, w, v)),
            span(r, left + middle, padded.width - left - middle, lambda _w, _v: pad),
        )
        if window.top == 0 and window.height >= window.padded(window.out_height).height:
            return inside
        outside = span(r, 0, padded.width, lambda _w, _v: pad)
        return tirx.IfThenElse(tirx.all(h >= 0, h < window.height), inside, outside)

    return loop("r", rows, row)


def input_rows(window: Window, rows: Expr) -> Expr:
    """Rows that ``rows`` output rows read."""
    return simplify((rows - 1) * window.strides[0] + window.reach[0])
