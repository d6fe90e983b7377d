"""The first ``k`` of ``n`` elements in order, by a heap: O(n log k) at worst.

The heap holds the best elements so far, each with its number, and the last of them in order
on top: a new element that comes before the top takes its place and sinks. At the end the top
is taken away again and again, which leaves the elements sorted. Equal elements are ordered by
their numbers, so the order is total and the result that of a stable sort.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    index,
    load,
    scratch,
    seq,
    store,
)  # fmt: skip

Order = Callable[[Expr, Expr], Expr]
"""Whether the first value comes before the second; false of equal ones."""


class SelectionHeap:
    """The ``k`` best of a row; ``values[j]`` and ``numbers[j]`` (int32) are in order at last."""

    def __init__(self, k: Expr, dtype: str, before: Order) -> None:
        self.k, self.before = k, before
        room = tirx.max(index(k), index(1))
        self.values, self.numbers = (
            scratch("best", [room], dtype),
            scratch("where", [room], "int32"),
        )
        self.value, self.number = scratch("value", [1], dtype), scratch("number", [1], "int32")
        self.hole, self.child = scratch("hole", [1], "int32"), scratch("child", [1], "int32")

    @property
    def buffers(self) -> list[Buffer]:
        """What must be allocated."""
        return [self.values, self.numbers, self.value, self.number, self.hole, self.child]

    def run(self, count: Expr, read: Callable[[Expr], Expr]) -> Stmt:
        """Selects from ``read(i)`` for ``i`` below ``count``, which is at least ``k``."""
        k = index(self.k)
        last = k - 1

        def first(i: Expr) -> Stmt:
            return self._put(read(i), i.astype("int32"), i)

        def heapify(j: Expr) -> Stmt:
            return self._sink_item(tirx.floordiv(k, index(2)) - 1 - j, k)

        def rest(j: Expr) -> Stmt:
            value = tirx.Var("item", str(self.values.dtype))
            sink = self._sink(value, (j + k).astype("int32"), index(0), k)
            enters = self.before(value, load(self.values, 0))
            return seq(tirx.Bind(value, read(j + k)), tirx.IfThenElse(enters, sink, None))

        def take(j: Expr) -> Stmt:
            end = tirx.Var("end", "int64")
            value, number = (tirx.Var(n, str(b.dtype)) for n, b in self._pairs())
            return seq(
                tirx.Bind(end, last - j),
                tirx.Bind(value, load(self.values, end)),
                tirx.Bind(number, load(self.numbers, end)),
                self._put(load(self.values, 0), load(self.numbers, 0), end),
                self._sink(value, number, index(0), end),
            )

        return seq(
            *[allocate(b) for b in self.buffers],
            _for("i", k, first),
            _for("i", tirx.floordiv(k, index(2)), heapify),
            _for("i", tirx.max(count - k, index(0)), rest),
            _for("i", tirx.max(last, index(0)), take),
        )

    def _pairs(self) -> list[tuple[str, Buffer]]:
        return [("moved", self.values), ("moved_number", self.numbers)]

    def _put(self, value: Expr, number: Expr, at: Expr) -> Stmt:
        return seq(store(self.values, value, at), store(self.numbers, number, at))

    def _precedes(self, a: Expr, i: Expr, b: Expr, j: Expr) -> Expr:
        """Whether value ``a`` of number ``i`` comes before ``b`` of number ``j``."""
        same = a == b
        if "float" in str(self.values.dtype):  # TVM turns "not less" into "at least", NaN or not
            same = tirx.any(same, tirx.all(tirx.isnan(a), tirx.isnan(b)))
        return tirx.any(self.before(a, b), tirx.all(same, i < j))

    def _sink_item(self, at: Expr, size: Expr) -> Stmt:
        """What is at ``at`` sinks."""
        place = tirx.Var("place", "int64")
        value, number = (tirx.Var(n, str(b.dtype)) for n, b in self._pairs())
        return seq(
            tirx.Bind(place, at),
            tirx.Bind(value, load(self.values, place)),
            tirx.Bind(number, load(self.numbers, place)),
            self._sink(value, number, place, size),
        )

    def _sink(self, value: Expr, number: Expr, at: Expr, size: Expr) -> Stmt:
        """``value`` takes the place ``at`` of a heap of ``size``, or that of one below."""
        bound = size.astype("int32")
        hole, child = load(self.hole, 0), load(self.child, 0)
        right = tirx.Var("right", "int32")
        later, at_later = tirx.Var("later", "bool"), tirx.Var("at_later", "int32")
        values = [tirx.Var(f"value{s}", str(self.values.dtype)) for s in "lr"]
        numbers = [tirx.Var(f"number{s}", "int32") for s in "lr"]
        v, n = (tirx.Var(name, str(b.dtype)) for name, b in zip(
            ("later_value", "later_number"), (self.values, self.numbers), strict=True
        ))  # fmt: skip
        one = tirx.const(1, "int32")
        rise = seq(
            self._put(v, n, hole),
            store(self.hole, at_later, 0),
            store(self.child, at_later * 2 + 1, 0),
        )
        body = seq(
            tirx.Bind(right, tirx.min(child + one, bound - one)),
            *[tirx.Bind(x, load(self.values, p)) for x, p in zip(values, (child, right),
                                                                 strict=True)],
            *[tirx.Bind(x, load(self.numbers, p)) for x, p in zip(numbers, (child, right),
                                                                  strict=True)],
            tirx.Bind(later, self._precedes(values[0], numbers[0], values[1], numbers[1])),
            tirx.Bind(at_later, tirx.Select(later, right, child)),
            tirx.Bind(v, tirx.Select(later, values[1], values[0])),
            tirx.Bind(n, tirx.Select(later, numbers[1], numbers[0])),
            tirx.IfThenElse(
                self._precedes(load(self.value, 0), load(self.number, 0), v, n),
                rise,
                store(self.child, bound, 0),
            ),
        )  # fmt: skip
        return seq(
            store(self.value, value, 0),
            store(self.number, number, 0),
            store(self.hole, at.astype("int32"), 0),
            store(self.child, at.astype("int32") * 2 + 1, 0),
            tirx.While(child < bound, body),
            self._put(load(self.value, 0), load(self.number, 0), hole),
        )


def _for(name: str, extent: Expr, body: Callable[[Expr], Stmt]) -> Stmt:
    """A loop that stays one, so that the body's names are bound in one place."""
    var = tirx.Var(name, "int64")
    return tirx.For(var, index(0), index(extent), tirx.ForKind.SERIAL, body(var))
