"""The data of a product of vectors as its kernel reads them: words, and scales in 32 bits.

Data (*lead, *space, G, V) become elements (*lead, *padded space, G, words size): bytes with
their offset, or int16; scales (*lead, *padded space, G): int32, or float32. Padding has scales
of 0, so what its elements are does not matter. Bytes that need nothing done are read in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from motet.targets.host.kernels.vector_products.form import Form, Instruction, Sums
from motet.targets.host.kernels.vector_products.tasks import tasks
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    index,
    load,
    loop,
    product,
    scratch,
    seq,
    simplify,
    store,
)


@dataclass(frozen=True, eq=False)
class Data:
    """integers, scales: as the kernel reads them, flat; prepare: what fills them."""

    integers: Buffer
    scales: Buffer
    prepare: tuple[Stmt, ...]


@dataclass(frozen=True, eq=False)
class Source:
    """The operands. before, after: padding of the axes between ``lead`` and the last two."""

    integers: Buffer
    scales: Buffer
    lead: int
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def space(self) -> list[Expr]:
        """Extents of what may be padded."""
        return list(self.scales.shape[self.lead : -1])

    @property
    def padded(self) -> list[Expr]:
        """The same with padding."""
        return [
            simplify(size + b + a)
            for size, b, a in zip(self.space, self.before, self.after, strict=True)
        ]

    @property
    def vectors(self) -> Expr:
        """Vectors of a position."""
        return self.scales.shape[-1]

    @property
    def is_padded(self) -> bool:
        """Whether there is padding."""
        return any((*self.before, *self.after))

    @property
    def rows(self) -> list[Expr]:
        """Extents of what is copied one by one: lines of padded data, else positions."""
        each = [*self.scales.shape[: self.lead], *self.padded]
        return each[:-1] if self.is_padded else each

    @property
    def width(self) -> Expr:
        """Positions of a row, without padding."""
        return self.space[-1] if self.is_padded else index(1)

    @property
    def padded_width(self) -> Expr:
        """With padding."""
        return self.padded[-1] if self.is_padded else index(1)

    @property
    def left(self) -> int:
        """Padding before a row."""
        return self.before[-1] if self.is_padded else 0


def data_of(source: Source, form: Form, lanes: int, several: bool) -> Data:
    """How ``source`` is read."""
    scales = _flat("scales_x", source, 1, "float32" if form.sums is Sums.FLOAT else "int32")
    prepare = [allocate(scales), _fill_scales(source, scales, form, lanes, several)]
    if _in_place(source, form):
        whole = tirx.decl_buffer(
            [product(source.integers.shape)], source.integers.dtype, "x", data=source.integers.data
        )
        return Data(whole, scales, (tirx.DeclBuffer(whole, data=source.integers.data), *prepare))
    dtype = "int16" if form.instruction is Instruction.PAIRS else "uint8"
    integers = _flat("words_x", source, form.words * form.instruction.size, dtype)
    copy = _fill_integers(source, integers, form, lanes, several)
    return Data(integers, scales, (allocate(integers), copy, *prepare))


def _flat(name: str, source: Source, each: int, dtype: str) -> Buffer:
    lead = source.scales.shape[: source.lead]
    return scratch(name, [product([*lead, *source.padded, source.vectors, each])], dtype)


def _in_place(source: Source, form: Form) -> bool:
    plain = str(source.integers.dtype) == "uint8" and form.instruction is not Instruction.PAIRS
    return plain and form.vector % 4 == 0 and not source.is_padded


def _row(source: Source, at: Sequence[Expr]) -> tuple[Expr, list[Expr], Expr | None]:
    """Of a padded row: its number, where it lies in the source, and whether it does."""
    number: Expr = index(0)
    for i, extent in zip(at, source.rows, strict=True):
        number = number * extent + i
    if not source.is_padded:
        return number, list(at), None
    inner = list(at[source.lead :])
    place = [*at[: source.lead]]
    inside: list[Expr] = []
    for i, before, after, extent in zip(
        inner, source.before, source.after, source.space, strict=False
    ):
        place.append(i - before)
        inside += [i >= before] if before else []
        inside += [i < extent + before] if after else []
    return number, place, tirx.all(*inside) if inside else None


def _fill_integers(source: Source, words: Buffer, form: Form, lanes: int, several: bool) -> Stmt:
    held, length = form.words * form.instruction.size, form.vector
    width, vectors = source.width, source.vectors
    dtype = str(words.dtype)

    def changed(value: Expr) -> Expr:
        if form.offset:
            return (value.astype("int16") + tirx.const(form.offset, "int16")).astype(dtype)
        return value.astype(dtype)

    def row(*at: Expr) -> Stmt:
        number, place, inside = _row(source, at)
        start = (number * source.padded_width + source.left) * vectors * held

        def run(first: Expr, position: list[Expr], count: Expr) -> Stmt:
            def element(i: Expr) -> Stmt:
                return store(words, changed(load(source.integers, *position, i)), first + i)

            return vector_loop("i", count, 2 * lanes, element)

        def vector(w: Expr, g: Expr) -> Stmt:
            position = [*place, w] if source.is_padded else place
            return run(start + (w * vectors + g) * held, [*position, g], index(length))

        if held == length:
            flat = product([width, vectors, length])
            copied = _flat_run(source, words, place, start, flat, changed, 2 * lanes)
        else:
            copied = loop("w", width, lambda w: loop("g", vectors, lambda g: vector(w, g)))
        return copied if inside is None else tirx.IfThenElse(inside, copied, None)

    return tasks(_names(source), source.rows, row, several)


def _flat_run(
    source: Source, words: Buffer, place: Sequence[Expr], start: Expr, count: Expr,
    changed: object, lanes: int,
) -> Stmt:  # fmt: skip
    flat = tirx.decl_buffer(
        [product(source.integers.shape)], source.integers.dtype, "x_flat",
        data=source.integers.data,
    )  # fmt: skip
    number: Expr = index(0)
    for i, extent in zip(place, source.integers.shape, strict=False):
        number = number * extent + i
    first = simplify(number * count)

    def element(i: Expr) -> Stmt:
        return store(words, changed(load(flat, first + i)), simplify(start) + i)  # type: ignore[operator]

    run = vector_loop("i", count, lanes, element)
    return seq(tirx.DeclBuffer(flat, data=source.integers.data), run)


def _fill_scales(source: Source, scales: Buffer, form: Form, lanes: int, several: bool) -> Stmt:
    width, vectors = source.width, source.vectors
    dtype = str(scales.dtype)

    def changed(value: Expr) -> Expr:
        value = value.astype(dtype)
        return value | (value << tirx.const(16, "int32")) if form.by_x else value

    def zeros(first: Expr, count: Expr) -> Stmt:
        return vector_loop(
            "z", count, lanes, lambda i: store(scales, tirx.const(0, dtype), first + i)
        )

    def row(*at: Expr) -> Stmt:
        number, place, inside = _row(source, at)
        start = simplify(number * source.padded_width * vectors)
        first = simplify(start + source.left * vectors)

        def one(w: Expr) -> Stmt:
            position = [*place, w] if source.is_padded else place

            def element(g: Expr) -> Stmt:
                value = changed(load(source.scales, *position, g))
                return store(scales, value, first + w * vectors + g)

            return vector_loop("g", vectors, lanes, element)

        copied = loop("w", width, one)
        if not source.is_padded:
            return copied
        edges = []
        if source.left:
            edges.append(zeros(start, product([index(source.left), vectors])))
        if source.after[-1]:
            behind = simplify(first + width * vectors)
            edges.append(zeros(behind, product([index(source.after[-1]), vectors])))
        filled = seq(*edges, copied)
        if inside is None:
            return filled
        nothing = zeros(start, product([source.padded_width, vectors]))
        return tirx.IfThenElse(inside, filled, nothing)

    return tasks(_names(source), source.rows, row, several)


def _names(source: Source) -> list[str]:
    return [f"r{i}" for i in range(len(source.rows))]
