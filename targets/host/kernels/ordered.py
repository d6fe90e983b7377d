"""Scans and selections, whose elements depend on an order: running totals, top-k, sorting.

All are parallel over the other axes and serial along their own. A selection of few elements
keeps the best so far in order and inserts each new one where it belongs: ``n`` comparisons
where few elements enter the list; one of many keeps them in a heap (``selection_heap``).
Equal elements keep their order, the first one first, as ONNX asks; NaN counts as larger than
every number, as numpy sorts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, te, tirx

from motet.targets.host.kernels.selection_heap import Order, SelectionHeap
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    constant_of,
    index,
    load,
    loop,
    parallel,
    scratch,
    seq,
    store,
)  # fmt: skip

# Elements above which a heap is faster than a list in order.
_MOST_INSERTED = 24


def over_others(shape: Sequence[Expr], axis: int, body: Callable[..., Stmt]) -> Stmt:
    """``body(at)`` for all positions of the other axes; ``at(i)`` puts ``i`` on the axis."""
    others = [k for k in range(len(shape)) if k != axis]

    def row(*lead: Expr) -> Stmt:
        return body(lambda i: [*lead[:axis], i, *lead[axis:]])

    if not others:
        return row()
    return parallel([f"o{k}" for k in others], [shape[k] for k in others], row, worth_it=True)


def scan_statement(x: Buffer, y: Buffer, axis: int, exclusive: bool, product: bool) -> Stmt:
    """``y = running sum (or product) of x`` along ``axis``."""
    total = scratch("total", [1], y.dtype)

    def row(at: Callable[[Expr], list[Expr]]) -> Stmt:
        def step(i: Expr) -> Stmt:
            so_far, item = load(total, 0), load(x, *at(i)).astype(y.dtype)
            add = store(total, so_far * item if product else so_far + item, 0)
            put = store(y, load(total, 0), *at(i))
            return seq(put, add) if exclusive else seq(add, put)

        first = store(total, tirx.const(int(product), y.dtype), 0)
        return seq(allocate(total), first, loop("i", x.shape[axis], step))

    return over_others(x.shape, axis, row)


def order(dtype: str, largest: bool) -> Order:
    """The order of a selection: NaN is larger than every number."""

    def before(a: Expr, b: Expr) -> Expr:
        plain = a > b if largest else a < b
        if "float" not in dtype:
            return plain
        nan, other = (a, b) if largest else (b, a)
        return tirx.any(plain, tirx.all(tirx.isnan(nan), tirx.Not(tirx.isnan(other))))

    return before


def selection_statement(
    x: Buffer, values: Buffer | None, indices: Buffer | None, axis: int, k: Expr, largest: bool
) -> Stmt:
    """The first ``k`` elements of ``x`` along ``axis`` in order, and where they were."""
    if constant_of(k) == 0:
        return seq(tirx.Evaluate(0))
    if (constant_of(k) or _MOST_INSERTED + 1) > _MOST_INSERTED:
        return _by_heap(x, values, indices, axis, k, largest)
    before = order(str(x.dtype), largest)
    best, where = scratch("best", [k], x.dtype), scratch("where", [k], "int32")
    slot = scratch("slot", [1], "int32")

    def insert(at: Callable[[Expr], list[Expr]], i: Expr) -> Stmt:
        value = load(x, *at(i))
        j = load(slot, 0)
        left = tirx.max(j - 1, tirx.const(0, "int32"))
        shift = seq(
            store(best, load(best, left), j),
            store(where, load(where, left), j),
            store(slot, j - 1, 0),
        )
        last = index(k - 1).astype("int32")
        threshold = load(best, last)
        enters = tirx.any(i < k, before(value, threshold))
        body = seq(
            store(slot, tirx.min(i.astype("int32"), last), 0),
            tirx.While(tirx.all(j > 0, before(value, load(best, left))), shift),
            store(best, value, j),
            store(where, i.astype("int32"), j),
        )
        return tirx.IfThenElse(enters, body, None)

    def row(at: Callable[[Expr], list[Expr]]) -> Stmt:
        return seq(
            *[allocate(b) for b in (best, where, slot)],
            loop("i", x.shape[axis], lambda i: insert(at, i)),
            _kept(at, k, (best, where), values, indices),
        )

    return over_others(x.shape, axis, row)


def _kept(
    at: Callable[[Expr], list[Expr]], k: Expr, found: tuple[Buffer, Buffer],
    values: Buffer | None, indices: Buffer | None,
) -> Stmt:  # fmt: skip
    """The selected elements of a row, to where they are wanted."""
    best, where = found

    def keep(i: Expr) -> Stmt:
        parts = [store(values, load(best, i), *at(i)) if values is not None else None]
        if indices is not None:
            parts.append(store(indices, load(where, i).astype(indices.dtype), *at(i)))
        return seq(*parts)

    return loop("i", k, keep)


def _by_heap(
    x: Buffer, values: Buffer | None, indices: Buffer | None, axis: int, k: Expr, largest: bool
) -> Stmt:
    """As ``selection_statement``, for any ``k``."""

    def row(at: Callable[[Expr], list[Expr]]) -> Stmt:
        heap = SelectionHeap(k, str(x.dtype), order(str(x.dtype), largest))
        found = heap.values, heap.numbers
        return seq(
            heap.run(x.shape[axis], lambda i: load(x, *at(i))),
            _kept(at, k, found, values, indices),
        )

    return over_others(x.shape, axis, row)


_Call = Any
_Builder = Any


def _axis(call: _Call, default: int = -1) -> int:
    rank = len(call.args[0].ty.shape.values)
    axis = call.attrs.axis
    return (default if axis is None else int(axis)) % rank


def cumulative(product: bool) -> Callable[[_Builder, _Call], relax.Expr]:
    """Legalisation of ``R.cumsum``, or of ``R.cumprod``."""

    def legalize(builder: _Builder, call: _Call) -> relax.Expr:
        axis, dtype = _axis(call, 0), call.ty.dtype
        exclusive = bool(call.attrs.exclusive)

        def compute(x: te.Tensor) -> te.Tensor:
            def statement(ins: list[Buffer], outs: list[Buffer]) -> Stmt:
                return scan_statement(ins[0], outs[0], axis, exclusive, product)

            return te.extern([x.shape], [x], statement, dtype=[dtype], name="cumulative")

        return builder.call_te(compute, call.args[0], primfunc_name_hint="cumulative")

    return legalize


def _selection(call: _Call, k: int | None, kinds: str, largest: bool) -> Callable[..., Any]:
    axis = _axis(call)
    types = call.ty.fields if isinstance(call.ty, relax.TupleType) else [call.ty]
    dtypes = [t.dtype for t in types]

    def compute(x: te.Tensor) -> Any:
        count = index(k) if k is not None else x.shape[axis]
        shape = [*x.shape[:axis], count, *x.shape[axis + 1 :]]

        def statement(ins: list[Buffer], outs: list[Buffer]) -> Stmt:
            values = outs[0] if kinds in ("both", "values") else None
            indices = outs[-1] if kinds in ("both", "indices") else None
            return selection_statement(ins[0], values, indices, axis, count, largest)

        return te.extern([shape] * len(dtypes), [x], statement, dtype=dtypes, name="select")

    return compute


def top_k(builder: _Builder, call: _Call) -> relax.Expr:
    """Legalisation of ``R.topk``."""
    attrs = call.attrs
    compute = _selection(call, int(attrs.k), str(attrs.ret_type), bool(attrs.largest))
    return builder.call_te(compute, call.args[0], primfunc_name_hint="topk")


def arg_sort(builder: _Builder, call: _Call) -> relax.Expr:
    """Legalisation of ``R.argsort``."""
    compute = _selection(call, None, "indices", bool(call.attrs.descending))
    return builder.call_te(compute, call.args[0], primfunc_name_hint="argsort")


def sort(builder: _Builder, call: _Call) -> relax.Expr:
    """Legalisation of ``R.sort``."""
    compute = _selection(call, None, "values", bool(call.attrs.descending))
    return builder.call_te(compute, call.args[0], primfunc_name_hint="sort")
