"""Packed weights of a product of vectors.

A *panel* is as many output channels as a row of accumulators holds. ``packed[group, panel]`` is a
row whose first value is the panel's *period*, how many vectors are summed in 32 bits, then for
every vector: for every chunk what its sums start at (where data have an offset) and its words;
then the scales (where weights are not folded).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.kernels.vector_products.form import Form, Instruction, Sums
from motet.targets.host.kernels.vector_products.tasks import tasks
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    constant_of,
    index,
    load,
    loop,
    seq,
    simplify,
    store,
)
from motet.targets.quantized.accumulators import rounded_products

_INT31 = 2**31 - 1
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Packer:
    """Packs constant weights (O, *taps, Gg, V) with scales (O, *taps, Gg); width: of a panel."""

    form: Form
    groups: int
    width: int

    def packed(self, *arrays: NDArray[Any]) -> NDArray[np.int32]:
        """[groups, panels, 1 + K rows, width]."""
        weights, scales = arrays
        each, vectors = weights.shape[0] // self.groups, int(np.prod(weights.shape[1:-1]))
        length, width = self.form.vector, self.width
        size = self.form.words * self.form.instruction.size
        filled = [(0, 0), (0, -each % width), (0, 0)]
        q = weights.reshape(self.groups, each, vectors, length).astype(np.int64)
        q = np.pad(q, [*filled, (0, size - length)])
        s = np.pad(scales.reshape(self.groups, each, vectors), filled)
        panels = q.shape[1] // width
        # (group, panel, vector, lane, element)
        q = np.moveaxis(q.reshape(self.groups, panels, width, vectors, size), 2, 3)
        s = np.swapaxes(s.reshape(self.groups, panels, width, vectors), 2, 3)
        rows = np.concatenate(self._rows(q, s), axis=3)
        first = np.zeros((self.groups, panels, 1, width), np.int32)
        first[..., 0, 0] = self._periods(q, s)
        body = rows.reshape(self.groups, panels, vectors * self.form.rows, width)
        return np.ascontiguousarray(np.concatenate([first, body], axis=2))

    def _rows(self, q: Ints, s: NDArray[Any]) -> list[NDArray[np.int32]]:
        """Rows of every vector, (group, panel, vector, row, lane) each."""
        form = self.form
        if form.folded:
            q = q * s[..., None].astype(np.int64)
        words = _words(q, form.instruction)  # (.., lane, word)
        rows = []
        for start in range(0, form.words, form.chunk):
            part = slice(start, start + form.chunk)
            if form.starts:
                rows.append(self._starts(q, part)[..., None, :])
            rows.append(np.swapaxes(words[..., part], -1, -2))
        if form.has_scales:
            rows.append(_scale_row(s, form)[..., None, :])
        return rows

    def _starts(self, q: Ints, chunk: slice) -> NDArray[np.int32]:
        fours = q.reshape(*q.shape[:-1], -1, 4)[..., chunk, :]
        if self.form.instruction is Instruction.DOTS:
            return np.asarray(-self.form.offset * fours.sum((-1, -2)), np.int32)
        halves = -self.form.offset * np.stack(
            [fours[..., :2].sum((-1, -2)), fours[..., 2:].sum((-1, -2))], axis=-1
        )
        return np.ascontiguousarray(halves.astype(np.int16)).view(np.int32)[..., 0]

    def _periods(self, q: Ints, s: NDArray[Any]) -> NDArray[np.int32]:
        """The most vectors, from any multiple of them, whose sums fit 31 bits; (group, panel)."""
        form, ranges = self.form, self.form.ranges
        periods = np.full(q.shape[:2], q.shape[2], np.int32)
        if form.sums is not Sums.NARROW:
            return periods
        scales = rounded_products(
            s.astype(np.int64) * ranges.x_scale, form.what.dropped, form.what.product_bits
        )
        most = np.abs(q).sum(-1) * scales * ranges.x  # (group, panel, vector, lane)
        for at in np.ndindex(*periods.shape):
            periods[at] = _period(most[at])
        return periods


def _period(most: Ints) -> int:
    """Of bounds (vector, lane): the longest run of vectors that adds up to at most 31 bits."""
    sums = np.concatenate([np.zeros_like(most[:1]), np.cumsum(most, 0)])
    low, high = 1, max(1, most.shape[0])
    while low < high:
        middle = (low + high + 1) // 2
        if (sums[middle:] - sums[:-middle]).max(initial=0) <= _INT31:
            low = middle
        else:
            high = middle - 1
    return low


def _words(q: Ints, instruction: Instruction) -> NDArray[np.int32]:
    """Elements (.., lane, element) as words (.., lane, word)."""
    narrow = np.int16 if instruction is Instruction.PAIRS else np.int8
    held = np.ascontiguousarray(q.astype(narrow))
    return held.view(np.int32)


def _scale_row(s: NDArray[Any], form: Form) -> NDArray[np.int32]:
    if form.sums is Sums.FLOAT:
        return np.ascontiguousarray(s.astype(np.float32)).view(np.int32)
    wide = s.astype(np.int64)
    if form.instruction is Instruction.BYTES and form.scaled:
        wide = wide | (wide << 16)
    return wide.astype(np.uint32).view(np.int32)


@dataclass(frozen=True)
class RunTimePacker:
    """Packs computed weights (*lead, N, *K, V) when the kernel runs.

    packed: [*lead, groups, panels, 1 + K rows, width].
    """

    form: Form
    groups: int
    width: int
    integers: Buffer
    scales: Buffer
    packed: Buffer
    lead: int

    def statement(self, several: bool) -> Stmt:
        """Fills ``packed``."""
        lead = list(self.integers.shape[: self.lead])
        panels = self.packed.shape[self.lead + 1]
        taps = list(self.integers.shape[self.lead + 1 : -1])

        def task(*at: Expr) -> Stmt:
            batch, group, panel = list(at[: self.lead]), at[-2], at[-1]
            where = [*batch, group, panel]

            def vector(*tap: Expr) -> Stmt:
                number: Expr = index(0)
                for i, extent in zip(tap, taps, strict=True):
                    number = number * extent + i
                first = simplify(number * self.form.rows + 1)
                return loop("lane", self.width, lambda r: self._lane(where, tap, first, r))

            period = store(self.packed, tirx.const(self._period(), "int32"), *where, 0, 0)
            return seq(period, _nest(taps, vector))

        names = [f"b{i}" for i in range(self.lead)] + ["group", "panel"]
        return tasks(names, [*lead, index(self.groups), panels], task, several)

    def _period(self) -> int:
        if self.form.sums is not Sums.NARROW:
            return _INT31
        return max(1, _INT31 // self.form.vector_bound)

    def _lane(self, where: Sequence[Expr], tap: Sequence[Expr], first: Expr, r: Expr) -> Stmt:
        """All rows of one vector in one lane."""
        form, size = self.form, self.form.instruction.size
        count = self.integers.shape[self.lead]
        each = simplify(tirx.floordiv(count, index(self.groups)))
        out = tirx.min(where[-1] * self.width + r, each - 1) + where[-2] * each
        place = [*where[: self.lead], out, *tap]
        scale = load(self.scales, *place)
        statements: list[Stmt] = []

        def element(e: Expr) -> Expr:
            inside = e < form.vector
            value = load(self.integers, *place, tirx.min(e, index(form.vector - 1)))
            value = value.astype("int32")
            if form.folded:
                value = value * scale.astype("int32")
            whole = form.words * size == form.vector
            return value if whole else tirx.Select(inside, value, tirx.const(0, "int32"))

        def put(value: Expr, row: Expr) -> Stmt:
            return store(self.packed, value, *where, row, r)

        per_chunk = form.chunk + form.starts
        for number in range(form.words // form.chunk):
            begin = first + number * per_chunk
            start_word = number * form.chunk
            if form.starts:
                statements.append(put(self._start(element, start_word), begin))
            for w in range(form.chunk):
                values = [element(index((start_word + w) * size + i)) for i in range(size)]
                statements.append(put(_joined(values), begin + form.starts + w))
        if form.has_scales:
            statements.append(put(_scale_word(scale, form), first + form.rows - 1))
        return seq(*statements)

    def _start(self, element: Any, start_word: int) -> Expr:
        form = self.form
        fours = [
            [element(index((start_word + w) * 4 + i)) for i in range(4)] for w in range(form.chunk)
        ]
        offset = tirx.const(-form.offset, "int32")
        if form.instruction is Instruction.DOTS:
            return offset * _total([v for four in fours for v in four])
        low = offset * _total([v for four in fours for v in four[:2]])
        high = offset * _total([v for four in fours for v in four[2:]])
        return _joined([low, high])


def _total(values: Sequence[Expr]) -> Expr:
    result = values[0]
    for value in values[1:]:
        result = result + value
    return result


def _joined(values: Sequence[Expr]) -> Expr:
    """Two or four int32 in one, the first one lowest."""
    bits = 32 // len(values)
    mask = tirx.const((1 << bits) - 1, "int32")
    result = values[0] & mask
    for i, value in enumerate(values[1:], 1):
        last = i == len(values) - 1
        part = value if last else value & mask
        result = result | (part << tirx.const(bits * i, "int32"))
    return result


def _scale_word(scale: Expr, form: Form) -> Expr:
    if form.sums is Sums.FLOAT:
        return tirx.reinterpret("int32", scale.astype("float32"))
    value = scale.astype("int32")
    if form.instruction is Instruction.BYTES and form.scaled:
        return value | (value << tirx.const(16, "int32"))
    return value


def _nest(extents: Sequence[Expr], body: Any) -> Stmt:
    def level(done: tuple[Expr, ...]) -> Stmt:
        if len(done) == len(extents):
            return body(*done)
        name = f"k{len(done)}"
        return loop(name, extents[len(done)], lambda i: level((*done, i)))

    return level(())


def vectors_in(weights: Buffer, lead: int) -> Expr:
    """K: vectors of one output."""
    result: Expr = index(1)
    for extent in weights.shape[lead + 1 : -1]:
        result = result * extent
    return simplify(result)


def is_known(extent: Expr) -> bool:
    """Whether an extent is a number."""
    return constant_of(extent) is not None
