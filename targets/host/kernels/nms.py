"""ONNX's NonMaxSuppression as one kernel, parallel over the classes of all images.

For each class of each image, boxes that score above the threshold go on a heap, the best
on top (of equal ones the first). Boxes are then taken from the heap one by one; one that
overlaps none taken before by more than the threshold is kept, up to the largest number.
Rows are written where their class would begin if all classes were full, and moved together
at the end. Overlaps are computed as onnxruntime does: a box without an area overlaps none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import relax, te, tirx

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
    scratch,
    seq,
    store,
)  # fmt: skip

_Call = Any
_Builder = Any


class _Cell:
    """One number in scratch memory."""

    def __init__(self, name: str, dtype: str) -> None:
        self.buffer = scratch(name, [1], dtype)

    @property
    def value(self) -> Expr:
        """What the cell holds."""
        return load(self.buffer, 0)

    def set(self, value: Expr | int) -> Stmt:
        """The statement that stores ``value``."""
        return store(self.buffer, tirx.const(value, self.buffer.dtype) if isinstance(value, int)
                     else value, 0)  # fmt: skip


class _Names:
    """Values under a name, so that no expression is written out twice."""

    def __init__(self) -> None:
        self.statements: list[Stmt] = []

    def name(self, name: str, value: Expr) -> Expr:
        """A variable that holds ``value`` from here on."""
        variable = tirx.Var(name, str(value.ty.dtype))
        self.statements.append(tirx.Bind(variable, value))
        return variable

    def then(self, *statements: Stmt) -> Stmt:
        """``statements`` after the named values."""
        return seq(*self.statements, *statements)


Box = tuple[Expr, Expr, Expr, Expr, Expr]
"""Lower corner, upper corner (two numbers each), and area."""


def _box(names: _Names, boxes: Buffer, image: Expr, number: Expr) -> Box:
    a, b, c, d = (names.name(f"side{k}", load(boxes, image, number, k)) for k in range(4))
    low = [names.name("low", tirx.min(*pair)) for pair in ((a, c), (b, d))]
    high = [names.name("high", tirx.max(*pair)) for pair in ((a, c), (b, d))]
    area = names.name("area", (high[0] - low[0]) * (high[1] - low[1]))
    return low[0], low[1], high[0], high[1], area


def _overlap(names: _Names, one: Box, other: Box, threshold: Expr) -> Expr:
    """Whether two boxes overlap by more than ``threshold``: intersection over union."""
    zero = tirx.const(0, str(one[4].ty.dtype))
    sides = [
        names.name("side", tirx.max(tirx.min(one[k + 2], other[k + 2]) - tirx.max(one[k], other[k]),
                                    zero))
        for k in range(2)
    ]  # fmt: skip
    shared = names.name("shared", sides[0] * sides[1])
    union = names.name("union", one[4] + other[4] - shared)
    share = names.name("share", shared / union)
    return tirx.all(shared > zero, one[4] > zero, other[4] > zero, union > zero, share > threshold)


class _Heap:
    """Boxes by score, the best on top: a binary heap of box numbers in scratch memory."""

    def __init__(self, room: Expr, score: Callable[[Expr], Expr]) -> None:
        self.score = score
        self.items = scratch("heap", [tirx.max(index(room), index(1))], "int32")
        self.size = _Cell("size", "int32")
        self.at, self.child = _Cell("at", "int32"), _Cell("child", "int32")

    @property
    def buffers(self) -> list[Buffer]:
        """What must be allocated."""
        return [self.items, self.size.buffer, self.at.buffer, self.child.buffer]

    def clear(self) -> Stmt:
        """Make it empty; the first place, which is read before it counts, holds some box."""
        return seq(self.size.set(0), store(self.items, tirx.const(0, "int32"), 0))

    def item(self, place: Expr) -> Expr:
        return load(self.items, place)

    def precedes(self, one: Expr, other: Expr) -> Expr:
        """Whether box ``one`` is to come before box ``other``."""
        a, b = self.score(one), self.score(other)
        return tirx.any(a > b, tirx.all(a == b, one < other))

    def push(self, box: Expr) -> Stmt:
        """Put ``box`` in, and let it rise."""
        at, zero = self.at.value, tirx.const(0, "int32")
        parent = self.child
        rise = seq(
            store(self.items, self.item(parent.value), at),
            self.at.set(parent.value),
            parent.set(tirx.max(tirx.truncdiv(at - 1, 2), zero)),
        )
        return seq(
            self.at.set(self.size.value),
            self.size.set(self.size.value + 1),
            parent.set(tirx.max(tirx.truncdiv(at - 1, 2), zero)),
            tirx.While(tirx.all(at > 0, self.precedes(box, self.item(parent.value))), rise),
            store(self.items, box, at),
        )

    def drop_top(self) -> Stmt:
        """Take the top away: the last box sinks from there."""
        at, child, size = self.at.value, self.child.value, self.size.value
        names = _Names()
        last = names.name("last", self.item(size))
        right = names.name("right", tirx.min(child + 1, tirx.max(size - 1, 0)))
        left_box, right_box = (
            names.name("left_box", self.item(child)), names.name("right_box", self.item(right))
        )  # fmt: skip
        is_right = names.name("is_right", self.precedes(right_box, left_box))
        best = names.name("best", tirx.Select(is_right, right_box, left_box))
        place = names.name("place", tirx.Select(is_right, right, child))
        rise = seq(store(self.items, best, at), self.at.set(place), self.child.set(place * 2 + 1))
        sink = names.then(tirx.IfThenElse(self.precedes(best, last), rise, self.child.set(size)))
        return seq(
            self.size.set(size - 1), self.at.set(0), self.child.set(1),
            tirx.While(child < size, sink),
            store(self.items, self.item(size), at),
        )  # fmt: skip


def _one_class(
    ins: list[Buffer], rows: Buffer, counts: Buffer, image: Expr, label: Expr, start: Expr
) -> Stmt:
    """Writes the boxes that one class of one image keeps from row ``start`` on, and how many."""
    boxes, scores, most, overlap, least = ins
    number = scores.shape[2]
    heap = _Heap(number, lambda box: load(scores, image, label, box))
    kept, other, top = _Cell("kept", "int64"), _Cell("other", "int64"), _Cell("top", "int32")
    hit = _Cell("hit", "int32")
    room = tirx.min(load(most, 0), number)

    def consider(box: Expr) -> Stmt:
        good = load(scores, image, label, box) > load(least, 0)
        return tirx.IfThenElse(good, heap.push(box.astype("int32")), None)

    names, inner = _Names(), _Names()
    best = _box(names, boxes, image, names.name("best", top.value))
    earlier = _box(inner, boxes, image, inner.name("earlier", load(rows, start + other.value, 2)))
    over = _overlap(inner, best, earlier, load(overlap, 0))
    compare = inner.then(tirx.IfThenElse(over, hit.set(1), None), other.set(other.value + 1))
    row = start + kept.value
    keep = seq(
        store(rows, image, row, 0),
        store(rows, label, row, 1),
        store(rows, top.value.astype("int64"), row, 2),
        kept.set(kept.value + 1),
    )
    take = seq(
        top.set(heap.item(tirx.const(0, "int32"))),
        heap.drop_top(),
        hit.set(0),
        other.set(index(0)),
        *names.statements,
        tirx.While(tirx.all(hit.value == 0, other.value < kept.value), compare),
        tirx.IfThenElse(hit.value == 0, keep, None),
    )
    cells = [cell.buffer for cell in (kept, other, top, hit)]
    return seq(
        *[allocate(buffer) for buffer in (*heap.buffers, *cells)],
        heap.clear(),
        kept.set(index(0)),
        loop("box", number, consider),
        tirx.While(tirx.all(heap.size.value > 0, kept.value < room), take),
        store(counts, kept.value, image, label),
    )


def statement(ins: list[Buffer], rows: Buffer, count: Buffer) -> Stmt:
    """The whole kernel: all classes, then their rows together."""
    scores, most = ins[1], ins[2]
    images, classes, boxes = scores.shape
    names = _Names()
    room = names.name("room", tirx.max(tirx.min(load(most, 0), boxes), index(0)))
    counts = scratch("counts", [images, classes], "int64")
    total = _Cell("total", "int64")

    def select(image: Expr, label: Expr) -> Stmt:
        names = _Names()
        number, name = names.name("image", image), names.name("label", label)
        start = names.name("start", (number * classes + name) * room)
        return names.then(_one_class(ins, rows, counts, number, name, start))

    def gather(image: Expr, label: Expr) -> Stmt:
        start = (image * classes + label) * room

        def move(j: Expr) -> Stmt:
            columns = [store(rows, load(rows, start + j, k), total.value + j, k) for k in range(3)]
            return tirx.IfThenElse(total.value != start, seq(*columns), None)

        length = load(counts, image, label)
        return seq(loop("j", length, move), total.set(total.value + length))

    return names.then(
        allocate(counts),
        allocate(total.buffer),
        parallel(["image", "label"], [images, classes], select, worth_it=True),
        total.set(index(0)),
        nest(["image", "label"], [images, classes], gather),
        store(count, total.value, 0),
    )


def non_max_suppression(builder: _Builder, call: _Call) -> relax.Expr:
    """Legalisation of ``motet.nms``."""
    shapes = [part.shape.values for part in call.ty.fields]

    def compute(*tensors: te.Tensor) -> Any:
        def body(ins: list[Buffer], outs: list[Buffer]) -> Stmt:
            return statement(ins, outs[0], outs[1])

        return te.extern(shapes, list(tensors), body, dtype=["int64", "int64"], name="nms")

    return builder.call_te(compute, *call.args[:5], primfunc_name_hint="nms")
