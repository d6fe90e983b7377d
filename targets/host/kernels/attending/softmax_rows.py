"""Softmax of rows of scores in scratch memory, without its division.

``e = exp(x - max)`` takes the place of ``x``, and ``1 / sum(e)`` is left for the product with the
values, whose result has fewer elements. Columns beyond the keys hold -inf, so they count for
nothing: rows are whole vectors. A row of -inf alone gives NaN, as numpy's formula does.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from motet.targets.host.kernels.combining import folded
from motet.targets.host.loops import (
    VECTORIZED,
    Buffer,
    Expr,
    Stmt,
    allocate,
    index,
    load,
    loop,
    scratch,
    seq,
    simplify,
    store,
)  # fmt: skip
from motet.targets.host.softmax import exp_of_nonpositive

_TYPE = "float32"


def softmax_rows(scores: Buffer, inverse: Buffer, first: Expr, rows: int, lanes: int) -> Stmt:
    """Rows ``first`` to ``first + rows`` of ``scores`` [row][columns], a multiple of ``lanes``
    columns; ``inverse`` [row] takes one over their sums.
    """
    vectors = simplify(tirx.floordiv(scores.shape[1], index(lanes)))
    most = [scratch(f"most{r}", [lanes], _TYPE) for r in range(rows)]
    sums = scratch("sums", [lanes], _TYPE)

    def each(body: Callable[[Expr], Stmt]) -> Stmt:
        return loop("lane", lanes, body, VECTORIZED)

    def largest_of(r: int, j: Expr) -> Stmt:
        def lane(v: Expr) -> Stmt:
            value = load(scores, first + r, j * lanes + v)
            return store(most[r], tirx.max(load(most[r], v), value), v)

        return each(lane)

    def filled(part: Buffer, value: float) -> Stmt:
        return each(lambda v: store(part, tirx.const(value, _TYPE), v))

    def row(r: Expr) -> Stmt:
        greatest, one = tirx.Var("greatest", "float32"), tirx.const(1.0, _TYPE)

        def vector(j: Expr) -> Stmt:
            def power(v: Expr) -> Stmt:
                x = load(scores, r, j * lanes + v) - greatest
                return store(scores, exp_of_nonpositive(x), r, j * lanes + v)

            def add(v: Expr) -> Stmt:
                return store(sums, load(sums, v) + load(scores, r, j * lanes + v), v)

            return seq(each(power), each(add))

        return seq(
            tirx.Bind(greatest, load(inverse, r)),
            filled(sums, 0.0),
            loop("j", vectors, vector),
            *folded(sums, lanes, lambda a, b: a + b),
            store(inverse, one / load(sums, 0), r),
        )

    def kept(r: int) -> list[Stmt]:
        """The largest value of a row, where one over its sum is going to be."""
        return [*folded(most[r], lanes, tirx.max), store(inverse, load(most[r], 0), first + r)]

    return seq(
        *[allocate(b) for b in (*most, sums)],
        *[filled(m, float("-inf")) for m in most],
        loop("j", vectors, lambda j: seq(*[largest_of(r, j) for r in range(rows)])),
        *[s for r in range(rows) for s in kept(r)],
        loop("r", rows, lambda r: row(first + r)),
    )
