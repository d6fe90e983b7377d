"""The nest of attention: what a task does with queries of one head.

    for batch, head, part of the queries: parallel
        keys and values of the head into panels                        (packing)
        for blocks of queries:
            for panel of keys, tile of queries:                        (scores stay in the cache)
                scores[rows][columns] = scale * q k'[panel] + mask
            for tile: scores = exp(scores - max), inverse = 1 / sum    (softmax_rows)
            for panel of values, tile of queries:
                y[rows][columns] = inverse * scores v'[panel]

Queries are read where they lie, a tile's rows one value at a time. The last tile starts early
where rows are not a multiple; fewer queries than a tile has rows, where their number is open,
go one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from motet.targets.host.kernels.attending.packing import pack_keys, pack_values, read_packed
from motet.targets.host.kernels.attending.softmax_rows import softmax_rows
from motet.targets.host.kernels.attending.views import Operands
from motet.targets.host.kernels.tile import Tile, emit_tile
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.loops import (
    Expr,
    Stmt,
    allocate,
    broadcast,
    constant_of,
    index,
    load,
    loop,
    parallel,
    ramp,
    scratch,
    seq,
    simplify,
    store,
)  # fmt: skip

_TYPE = "float32"
Head = tuple[Expr, Expr]


@dataclass(frozen=True)
class Shape:
    """Of the nest: a tile's rows, vectors of keys and vectors of values; tiles in a block of
    queries; parts of a head's queries that are tasks of their own.
    """

    rows: int
    vectors: int
    value_vectors: int
    block: int
    parts: int
    lanes: int


def attend(operands: Operands, shape: Shape, parallel_: bool) -> Stmt:
    """All tasks."""
    size = operands.query.extent("S")
    lead = [operands.query.extent("B"), operands.query.extent("H"), index(shape.parts)]

    def task(b: Expr, h: Expr, part: Expr) -> Stmt:
        whole = _Task(operands, shape, (b, h), part)
        if constant_of(size) is not None or shape.rows == 1:
            return whole.statement()
        single = Shape(1, shape.vectors, shape.value_vectors, shape.block, shape.parts, shape.lanes)
        one = _Task(operands, single, (b, h), part)
        return tirx.IfThenElse(size >= shape.rows, whole.statement(), one.statement())

    return parallel(["b", "h", "part"], lead, task, parallel_)


def _ceil(a: Expr, b: int) -> Expr:
    return simplify(tirx.floordiv(a + (b - 1), index(b)))


class _Task:
    """One part of the queries of one head."""

    def __init__(self, operands: Operands, shape: Shape, head: Head, part: Expr) -> None:
        self.operands, self.shape, self.head, self.part = operands, shape, head, part
        self.queries, self.keys = operands.query.extent("S"), operands.key.extent("S")
        self.depth = operands.query.extent("D")
        self.width = constant_of(operands.value.extent("D")) or 0
        lanes = shape.lanes
        self.score_tile = Tile(shape.rows, shape.vectors, lanes, _TYPE)
        columns = self.score_tile.columns
        self.panels = tirx.max(_ceil(self.keys, columns), index(1))
        if constant_of(self.keys) is not None:
            self.panels = simplify(self.panels)
        self.tiles = _ceil(self.queries, shape.rows)
        self.packed_keys = scratch("keys", [self.panels, self.depth, columns], _TYPE)
        padded = -(-self.width // lanes) * lanes
        self.packed_values = scratch("values", [simplify(self.keys * padded)], _TYPE)
        rows = shape.block * shape.rows
        self.scores = scratch("scores", [rows, simplify(self.panels * columns)], _TYPE)
        self.inverse = scratch("inverse", [rows], _TYPE)

    def statement(self) -> Stmt:
        """Packing, then block after block."""
        buffers = (self.packed_keys, self.packed_values, self.scores, self.inverse)
        each = _ceil(self.tiles, self.shape.parts)
        first = simplify(self.part * each)
        here = simplify(tirx.min(each, self.tiles - first))

        def block(i: Expr) -> Stmt:
            start = first + i * self.shape.block
            count = simplify(tirx.min(index(self.shape.block), here - i * self.shape.block))
            return self.block(start, count)

        return seq(
            *[allocate(b) for b in buffers],
            pack_keys(self.packed_keys, self.operands.key, self.head),
            *[self.pack_panel(*panel) for panel in self.value_panels()],
            loop("block", _ceil(here, self.shape.block), block),
        )

    def value_panels(self) -> list[tuple[int, int, int]]:
        """Panels of the values: how many alike, from which element, vectors of each."""
        lanes, vectors = self.shape.lanes, self.shape.value_vectors
        full, rest = divmod(self.width, lanes * vectors)
        alike = [(full, 0, vectors)] if full else []
        return [*alike, (1, full * lanes * vectors, -(-rest // lanes))] if rest else alike

    def pack_panel(self, count: int, first: int, vectors: int) -> Stmt:
        columns = vectors * self.shape.lanes

        def panel(p: Expr) -> Stmt:
            element = simplify(first + p * columns)
            return pack_values(
                self.packed_values, simplify(self.keys * element), element, columns,
                self.operands.value, self.head, self.shape.lanes,
            )  # fmt: skip

        return loop("panel", count, panel)

    def block(self, start: Expr, count: Expr) -> Stmt:
        """``count`` tiles of queries from tile ``start``."""
        columns, rows = self.score_tile.columns, self.shape.rows
        even = constant_of(simplify(self.keys - self.panels * columns)) == 0

        def scored(cut: bool) -> Callable[[Expr], Stmt]:
            return lambda p: loop("qt", count, lambda t: self.score(start, t, p, cut))

        if even:
            scores = loop("kp", self.panels, scored(False))
        else:
            last = simplify(self.panels - 1)
            scores = seq(
                loop("kp", last, scored(False)) if constant_of(last) != 0 else None,
                scored(True)(last),
            )
        softmax = loop(
            "st", count,
            lambda t: softmax_rows(self.scores, self.inverse, t * rows, rows, self.shape.lanes),
        )  # fmt: skip
        return seq(scores, softmax, *[self.weigh(start, count, *p) for p in self.value_panels()])

    def query_of(self, tile: Expr) -> Expr:
        """The first query of a tile."""
        rows, size = self.shape.rows, constant_of(self.queries)
        first = tile * rows
        return first if size is not None and size % rows == 0 else tirx.min(
            first, self.queries - rows
        )  # fmt: skip

    def score(self, start: Expr, t: Expr, panel: Expr, cut: bool) -> Stmt:
        """A tile of scores; ``cut``: a panel that may have more columns than there are keys."""
        tile, lanes, rows = self.score_tile, self.shape.lanes, self.shape.rows
        query, column = self.query_of(start + t), panel * tile.columns
        view = self.operands.query

        def reduction(step: Any) -> Stmt:
            return loop("d", self.depth, lambda d: step(
                lambda r: view.at(self.head, query + r, d),
                lambda v: load(self.packed_keys, panel, d, ramp(index(v * lanes), lanes)),
            ))  # fmt: skip

        def keep(r: int, v: int, value: Expr) -> Stmt:
            first = column + v * lanes
            if self.operands.scale != 1.0:
                value = value * broadcast(tirx.const(self.operands.scale, _TYPE), lanes)
            if cut:
                inside = ramp(first, lanes) < broadcast(index(self.keys), lanes)
                nothing = broadcast(tirx.const(float("-inf"), _TYPE), lanes)
                value = tirx.Select(inside, value, nothing)
            elif self.operands.mask is not None:
                value = value + self.mask_vector(query + r, first)
            return store(self.scores, value, t * rows + r, ramp(first, lanes))

        masked = None
        if cut and self.operands.mask is not None:
            masked = self.mask_row_by_row(t, query, column)
        return seq(emit_tile(tile, reduction, keep), masked)

    def mask_vector(self, query: Expr, key: Expr) -> Expr:
        mask, lanes = self.operands.mask, self.shape.lanes
        assert mask is not None
        if mask.by_key:
            return mask.at(self.head, query, ramp(key, lanes))
        return broadcast(mask.at(self.head, query, key), lanes)

    def mask_row_by_row(self, t: Expr, query: Expr, column: Expr) -> Stmt:
        """The mask of the keys that a cut panel has."""
        mask, rows = self.operands.mask, self.shape.rows
        assert mask is not None

        def row(r: Expr) -> Stmt:
            def element(i: Expr) -> Stmt:
                at = [t * rows + r, column + i]
                value = load(self.scores, *at) + mask.at(self.head, query + r, column + i)
                return store(self.scores, value, *at)

            return vector_loop("n", simplify(self.keys - column), self.shape.lanes, element)

        return loop("r", rows, row)

    def weigh(self, start: Expr, count: Expr, panels: int, first: int, vectors: int) -> Stmt:
        """Panels of values, weighed by the scores."""
        tile = Tile(self.shape.rows, vectors, self.shape.lanes, _TYPE)

        def one(p: Expr, t: Expr) -> Stmt:
            element = simplify(first + p * tile.columns)
            return self.weighed(tile, start, t, element)

        return loop("vp", panels, lambda p: loop("qt", count, lambda t: one(p, t)))

    def weighed(self, tile: Tile, start: Expr, t: Expr, first: Expr) -> Stmt:
        """A tile of the result, its elements from ``first``."""
        lanes, rows = tile.lanes, tile.rows
        base, query = simplify(self.keys * first), self.query_of(start + t)
        known = constant_of(first)
        beyond = 0 if known is None else max(0, known + tile.columns - self.width)
        result = self.operands.result
        rest = [scratch(f"rest{r}", [lanes], _TYPE) for r in range(rows)] if beyond else []

        def reduction(step: Any) -> Stmt:
            return loop("s", self.keys, lambda s: step(
                lambda r: load(self.scores, t * rows + r, s),
                lambda v: read_packed(
                    self.packed_values, base + s * tile.columns + v * lanes, lanes),
            ))  # fmt: skip

        def keep(r: int, v: int, value: Expr) -> Stmt:
            value = value * broadcast(load(self.inverse, t * rows + r), lanes)
            at = first + v * lanes
            if beyond and v == tile.vectors - 1:
                last = store(rest[r], value, ramp(index(0), lanes))
                return seq(last, loop("n", lanes - beyond, lambda i: store(
                    result.buffer, load(rest[r], i),
                    *result.indices(self.head, query + r, at + i))))  # fmt: skip
            where = result.indices(self.head, query + r, ramp(at, lanes))
            return store(result.buffer, value, *where)

        return seq(*[allocate(b) for b in rest], emit_tile(tile, reduction, keep))
