"""One register tile of a product of vectors: some positions by a panel of output channels.

::

    for segment of the vectors:                            (one, where sums are not NARROW)
        acc[p][b] = 0
        for vector k of the segment:
            for chunk of the vector:
                d[p][b] = start[k, chunk, b];  for word: d[p][b] += x[p, k, word] * w'[k, word, b]
                t[p][b] += d[p][b] (times the weights' scales)
            acc[p][b] += t[p][b] * (scales of data and weights)
        sums[p][b] += acc[p][b]

A word of the data is broadcast; a vector of words of the weights is that of as many output
channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from motet.targets.host.kernels.blocked_conv.integer_groups import halves_of_fours
from motet.targets.host.kernels.fours import dot_sum
from motet.targets.host.kernels.pairs import fenced, pair_product, pair_sum
from motet.targets.host.kernels.vector_products.form import Form, Instruction, Sums
from motet.targets.host.kernels.vector_products.scaling import Scaling, in_turns
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    broadcast,
    index,
    load,
    loop,
    ramp,
    scratch,
    seq,
    store,
)
from motet.targets.host.machine import Machine

_WORKSPACE = 512
"""Elements of 4 bytes from which TVM takes memory from the workspace, at 64 bytes."""
Grid = list[list[Expr]]
"""Vectors by position and vector of output channels."""


@dataclass(frozen=True, eq=False)
class Reading:
    """Where a tile reads.

    integers, scales: the data, flat; weights: packed, flat; offsets: of vector k from a
    position's first, None where it is k.
    """

    integers: Buffer
    scales: Buffer
    weights: Buffer
    offsets: Buffer | None


@dataclass(frozen=True, eq=False)
class TileNest:
    """``rows`` positions by ``blocks`` vectors of ``lanes`` output channels."""

    form: Form
    machine: Machine
    rows: int
    blocks: int
    lanes: int
    reading: Reading

    @property
    def width(self) -> int:
        """Output channels of a panel."""
        return self.blocks * self.lanes

    @property
    def sums_dtype(self) -> str:
        """What sums between tiles are held in."""
        return "float32" if self.form.sums is Sums.FLOAT else "int64"

    @property
    def in_turns(self) -> bool:
        """Whether sums are of the even lanes, then of the odd ones."""
        return in_turns(self.form, self.lanes)

    def ordered(self, value: Expr) -> Expr:
        """A vector of sums, or what became of them, with its lanes in order."""
        if not self.in_turns:
            return value
        order = [lane for i in range(self.lanes // 2) for lane in (i, i + self.lanes // 2)]
        return tirx.Shuffle([value], list(map(index, order)))

    def lane(self, p: int, b: int) -> Expr:
        """Where an accumulator lies in a flat buffer of all."""
        return ramp(index((p * self.blocks + b) * self.lanes), self.lanes)

    def each(self) -> list[tuple[int, int]]:
        """Positions and vectors of output channels."""
        return [(p, b) for p in range(self.rows) for b in range(self.blocks)]

    @property
    def held_dtype(self) -> str:
        """What a tile accumulates in."""
        return "int32" if self.form.sums is Sums.NARROW else self.sums_dtype

    def accumulators(self) -> Buffer:
        """Room for those of a tile: so much that it is not on the stack, and so is aligned."""
        return scratch("acc", [max(_WORKSPACE, self.rows * self.width)], self.held_dtype)

    def write(
        self, acc: Buffer, bases: Sequence[Expr], panel: Expr, period: Expr, first: Expr,
        count: Expr, finish: Callable[[Buffer], Stmt],
    ) -> Stmt:  # fmt: skip
        """Vectors ``first`` to ``first + count``, at most ``period`` between two ``finish``.

        bases: the first vector of every position. panel: the first element of a panel.
        """
        narrow = self.form.sums is Sums.NARROW
        zero = broadcast(tirx.const(0, self.held_dtype), self.lanes)

        def segment(start: Expr, length: Expr) -> Stmt:
            return seq(
                *[store(acc, zero, self.lane(*at)) for at in self.each()],
                loop("k", length, lambda k: self._vector(acc, bases, panel, start + k)),
                finish(acc),
            )

        if not narrow:
            return segment(first, count)
        segments = tirx.floordiv(count + period - 1, period)

        def run(s: Expr) -> Stmt:
            start = s * period
            return segment(first + start, tirx.min(period, count - start))

        return loop("segment", segments, run)

    def widened(self, value: Expr) -> Expr:
        """A vector of accumulators as one of sums."""
        if self.form.sums is not Sums.NARROW:
            return value
        return value.astype(f"int64x{self.lanes}")

    def _vector(self, acc: Buffer, bases: Sequence[Expr], panel: Expr, k: Expr) -> Stmt:
        return _Vector(self, acc, bases, panel, k).write()


class _Vector:
    """Writes the products of vector ``k``."""

    def __init__(
        self, nest: TileNest, acc: Buffer, bases: Sequence[Expr], panel: Expr, k: Expr
    ) -> None:
        self.nest, self.acc, self.form = nest, acc, nest.form
        self.statements: list[Stmt] = []
        lanes, reading, form = nest.lanes, nest.reading, nest.form
        self.row = self.bind("row", panel + (k * form.rows + 1) * nest.width)
        offset = k if reading.offsets is None else load(reading.offsets, k)
        offset = self.bind("offset", offset)
        held = form.words * form.instruction.size
        self.at = [self.bind(f"at{p}", (base + offset) * held) for p, base in enumerate(bases)]
        self.scale_at = [base + offset for base in bases]
        self.lanes = lanes

    def bind(self, name: str, value: Expr) -> Expr:
        var = tirx.Var(name, value.ty)
        self.statements.append(tirx.Bind(var, value))
        return var

    def write(self) -> Stmt:
        form = self.form
        if form.words == form.chunk:
            dots = self._dots(index(0), index(0))
            self._scale(self._joined(dots))
            return seq(*self.statements)
        return seq(*self.statements, self._several())

    def _several(self) -> Stmt:
        """Several chunks, which are summed in 32 bits."""
        nest, form = self.nest, self.form
        total = scratch("total", [nest.rows * nest.width], "int32")
        zero = broadcast(tirx.const(0, "int32"), self.lanes)

        is_bytes = form.instruction is Instruction.BYTES

        def chunk(c: Expr) -> Stmt:
            self.statements = []
            held = None if is_bytes else grid()
            dots = self._joined(self._dots(c * form.chunk, c, held))
            for p, b in nest.each():
                lane = nest.lane(p, b)
                value = load(total, lane) + dots[p][b] if is_bytes else dots[p][b]
                self.statements.append(store(total, value, lane))
            return seq(*self.statements)

        def grid() -> Grid:
            blocks = range(nest.blocks)
            return [[load(total, nest.lane(p, b)) for b in blocks] for p in range(nest.rows)]

        body = loop("chunk", form.words // form.chunk, chunk)
        self.statements = []
        self._scale(grid())
        starts = [store(total, zero, nest.lane(*at)) for at in nest.each()]
        return seq(allocate(total), *starts, body, *self.statements)

    def _weights(self, row: Expr, b: int) -> Expr:
        """Vector ``b`` of a row of packed weights."""
        nest = self.nest
        at = self.row + row * nest.width + b * self.lanes
        return load(nest.reading.weights, ramp(at, self.lanes))

    def _word(self, p: int, word: Expr) -> Expr:
        size = self.form.instruction.size
        held = load(self.nest.reading.integers, ramp(self.at[p] + word * size, size))
        return broadcast(tirx.reinterpret("int32", held), self.lanes)

    def _dots(self, word: Expr, chunk: Expr, held: Grid | None = None) -> Grid:
        """``held`` with the sums of a chunk, which begins at ``word``; of BYTES in halves."""
        form, nest = self.form, self.nest
        row = chunk * (form.chunk + form.starts)
        grid: list[list[Expr | None]] = [
            [None if held is None else held[p][b] for b in range(nest.blocks)]
            for p in range(nest.rows)
        ]
        if form.starts:
            for b in range(nest.blocks):
                start = self._halves(self.bind(f"start{b}", self._weights(row, b)))
                for p in range(nest.rows):
                    before = grid[p][b]
                    grid[p][b] = start if before is None else before + start
        for w in range(form.chunk):
            weights = [
                self.bind(f"w{b}", self._weights(row + form.starts + w, b))
                for b in range(nest.blocks)
            ]
            for p in range(nest.rows):
                x = self.bind(f"x{p}", self._word(p, word + w))
                for b in range(nest.blocks):
                    grid[p][b] = self.bind("d", self._added(grid[p][b], x, weights[b]))
        return [[value for value in line if value is not None] for line in grid]

    def _halves(self, value: Expr) -> Expr:
        if self.form.instruction is not Instruction.BYTES:
            return value
        return tirx.reinterpret(f"int16x{2 * self.lanes}", value)

    def _added(self, total: Expr | None, x: Expr, weights: Expr) -> Expr:
        form, machine, lanes = self.form, self.nest.machine, self.lanes
        if form.instruction is Instruction.DOTS:
            start = broadcast(tirx.const(0, "int32"), lanes) if total is None else total
            return dot_sum(lanes)(start, x, weights)
        if form.instruction is Instruction.PAIRS:
            if total is None:
                return pair_product(machine, lanes)(x, weights)
            return pair_sum(machine, lanes)(total, x, weights)
        product = halves_of_fours(lanes)(x, weights)
        return product if total is None else _fenced(total + product, lanes)

    def _joined(self, dots: Grid) -> Grid:
        """Of BYTES both halves added, times the scale that ``pmaddwd`` can multiply with."""
        form, nest, lanes = self.form, self.nest, self.lanes
        if form.instruction is not Instruction.BYTES:
            return dots
        multiply = pair_product(nest.machine, lanes)
        ones = broadcast(tirx.const(0x10001, "int32"), lanes)
        result: Grid = []
        for p in range(nest.rows):
            scales = [ones] * nest.blocks
            if form.by_x:
                scales = [self._x_scale(p)] * nest.blocks
            elif form.scaled:
                scales = [self._weights(index(form.rows - 1), b) for b in range(nest.blocks)]
            line = [
                multiply(tirx.reinterpret(f"int32x{lanes}", dots[p][b]), scales[b])
                for b in range(nest.blocks)
            ]
            result.append([self.bind("t", value) for value in line])
        return result

    def _x_scale(self, p: int) -> Expr:
        value = load(self.nest.reading.scales, self.scale_at[p])
        return self.bind(f"sx{p}", broadcast(value, self.lanes))

    def _scale(self, parts: Grid) -> None:
        """Adds parts times their scales to the accumulators."""
        form, nest = self.form, self.nest
        needs_weights = not form.scaled
        scaling = Scaling(form, nest.lanes, self.bind)
        weights = [
            self._scales(self._weights(index(form.rows - 1), b)) if needs_weights else None
            for b in range(nest.blocks)
        ]
        for p in range(nest.rows):
            x = None if form.by_x else self._x_scale(p)
            for b in range(nest.blocks):
                lane = nest.lane(p, b)
                added = load(self.acc, lane) + scaling.scaled(parts[p][b], x, weights[b])
                self.statements.append(store(self.acc, added, lane))

    def _scales(self, words: Expr) -> Expr:
        if self.form.sums is Sums.FLOAT:
            words = tirx.reinterpret(f"float32x{self.lanes}", words)
        return self.bind("sw", words)


def _fenced(halves: Expr, lanes: int) -> Expr:
    """int16, as a value that LLVM does not look into: it would add products of several words."""
    words = tirx.reinterpret(f"int32x{lanes}", halves)
    return tirx.reinterpret(f"int16x{2 * lanes}", fenced(words))
