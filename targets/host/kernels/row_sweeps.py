"""The nest of stages that work row by row (``rows``).

Stages that need no finished sum of each other share one sweep over the row. A sweep goes
in vectors; a reduction keeps several vectors of partial results, so that additions do not
wait for each other (which reassociates sums), and combines them at the end of the row. Where
a row is not a multiple of the vector, a last vector starts early; what it sees a second time
is masked out of the sums. Where values are kept is ``row_places``'. A division of all elements
by one value is a multiplication by its reciprocal.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tvm import tirx

from motet.targets.host.exprs import loads, rewrite, same_expr, walk
from motet.targets.host.kernels.combining import combination_of, folded
from motet.targets.host.kernels.injective import lanes_for, unfuse, worth_parallel
from motet.targets.host.kernels.reduction import start_of
from motet.targets.host.kernels.row_places import Row
from motet.targets.host.kernels.rows import Rows, scalar_division
from motet.targets.host.loops import (
    VECTORIZED,
    Buffer,
    Expr,
    Stmt,
    allocate,
    constant_of,
    index,
    load,
    loop,
    nest,
    parallel,
    product,
    scratch,
    seq,
    simplify,
    store,
)  # fmt: skip
from motet.targets.host.machine import Machine
from motet.targets.host.stages import Stage

_PARTIAL_VECTORS = 4
_CHEAP_NODES = 24


def emit_rows(rows: Rows, machine: Machine) -> Stmt:
    """The nest of a run of stages."""

    def row(*at: Expr) -> Stmt:
        return _row(Row(rows, machine, at))

    if not rows.extents:
        return row()
    names = [f"row{k}" for k in range(rows.lead)]
    longest = max(rows.stages, key=lambda s: len(s.spatial) + len(s.reduction))
    extents = [a.extent for a in (*longest.spatial, *longest.reduction)]
    work = sum(len(walk(s.value)) for s in rows.stages)
    return parallel(names, rows.extents, row, worth_parallel(extents, work, machine))


def _row(row: Row) -> Stmt:
    """All sweeps of a row, with the scalar stages between them."""
    own = [allocate(b) for b in row.places()]
    parts: list[Stmt] = []
    sweep: list[Stage] = []
    for stage in row.rows.stages:
        if sweep and (not row.rows.inner(stage) or _waits_for(row, stage, sweep)):
            parts.append(_Sweep(row, sweep).statement())
            sweep = []
        if row.rows.inner(stage):
            sweep.append(stage)
        else:
            parts.append(row.finish(stage, row.value(stage, stage.value, {})))
    if sweep:
        parts.append(_Sweep(row, sweep).statement())
    return seq(*own, *parts)


def _waits_for(row: Row, stage: Stage, sweep: Sequence[Stage]) -> bool:
    """Whether ``stage`` needs a sum of ``sweep``, or would overwrite what it keeps."""
    sums = [s.output for s in sweep if s.reduction]
    if any(x.source.same_as(b) for x in loads(stage.value) for b in sums):
        return True
    return any(host.same_as(stage.output) for host in row.kept.values())


class _Sweep:
    """One sweep over a row by ``stages``."""

    def __init__(self, row: Row, stages: Sequence[Stage]) -> None:
        self.row, self.stages = row, stages
        dtypes = [s.output.dtype for s in stages]
        self.lanes = min(lanes_for(row.machine, d) for d in dtypes)
        cheap = all(len(walk(s.value)) <= _CHEAP_NODES for s in stages)
        self.vectors = _PARTIAL_VECTORS if cheap else 1
        self.sums = {
            s.output: [
                scratch(f"part{v}", [self.lanes], s.output.dtype) for v in range(self.vectors)
            ]
            for s in stages if s.reduction
        }  # fmt: skip
        self.rest = {b: scratch("rest", [1], b.dtype) for b in self.sums}
        self.inverses: list[tuple[Buffer, Expr]] = []
        self.values = {s.output: self.prepared(s) for s in stages}

    def prepared(self, stage: Stage) -> Expr:
        """The element's value, with divisions by what is the same in a row taken out."""
        made = combination_of(stage) if stage.reduction else None
        value = made[1] if made is not None else stage.value
        inner = self.row.rows.inner(stage)
        wanted = scalar_division(value, inner)

        def by_inverse(e: Expr) -> Expr | None:
            if not isinstance(e, tirx.Div) or not any(same_expr(e, w) for w in wanted):
                return None
            inverse = scratch("inverse", [1], "float32")
            one = tirx.const(1.0, "float32")
            self.inverses.append((inverse, self.row.value(stage, one / e.b, {})))
            return e.a * load(inverse, 0)

        return rewrite(value, by_inverse) if wanted else value

    def statement(self) -> Stmt:
        own = [allocate(b) for parts in self.sums.values() for b in parts]
        own += [allocate(b) for b in self.rest.values()]
        starts = [statement for s in self.stages if s.reduction for statement in self.started(s)]
        inverses = [seq(allocate(b), store(b, value, 0)) for b, value in self.inverses]
        *outer, last = self.row.rows.groups
        extents = [self.extent(group) for group in outer]
        names = [f"g{k}" for k in range(len(outer))]
        body = nest(names, extents, lambda *at: self.pieces(at, last))
        flat = [s for one in inverses for s in one] if inverses else []
        return seq(*flat, *own, *starts, body, *self.ends())

    def started(self, stage: Stage) -> list[Stmt]:
        """Partial results at what they start from."""

        def start(part: Buffer) -> Stmt:
            return self.lane_loop(self.lanes, lambda v: store(part, start_of(stage), v))

        parts = [start(part) for part in self.sums[stage.output]]
        return [*parts, store(self.rest[stage.output], start_of(stage), 0)]

    def axes(self, stage: Stage, group: Sequence[int]) -> list[Any]:
        inner = self.row.rows.inner(stage)
        return [inner[k] for k in group]

    def extent(self, group: Sequence[int]) -> Expr:
        return product([a.extent for a in self.axes(self.stages[0], group)])

    @staticmethod
    def lane_loop(width: int, body: Any) -> Stmt:
        return loop("lane", width, body, VECTORIZED)

    def pieces(self, outer: Sequence[Expr], last: Sequence[int]) -> Stmt:
        """The last group of axes: several vectors at a time, single vectors, the rest."""
        extent = self.extent(last)
        block = self.lanes * self.vectors
        blocks = simplify(tirx.floordiv(extent, index(block)))
        whole = simplify(tirx.floordiv(extent - blocks * block, index(self.lanes)))
        done = simplify(blocks * block + whole * self.lanes)

        def many(i: Expr) -> Stmt:
            return seq(*[
                self.vector(outer, i * block + v * self.lanes, v) for v in range(self.vectors)
            ])  # fmt: skip

        parts = [loop("block", blocks, many)] if constant_of(blocks) != 0 else []
        if self.vectors > 1 and constant_of(whole) != 0:
            single = loop(
                "vector", whole, lambda i: self.vector(outer, blocks * block + i * self.lanes, 0)
            )
            parts.append(single)
        size = constant_of(extent)
        if size is None or size % self.lanes:
            parts.append(self.tail(outer, done, extent))
        return seq(*parts)

    def tail(self, outer: Sequence[Expr], done: Expr, extent: Expr) -> Stmt:
        size = constant_of(extent)
        if size is not None and size >= self.lanes and self.may_repeat():
            seen = self.lanes - size % self.lanes
            return self.vector(outer, index(size - self.lanes), 0, seen)
        return loop("tail", simplify(extent - done), lambda i: self.single(outer, done + i))

    def may_repeat(self) -> bool:
        """Whether computing an element a second time gives the same: not where its place held
        what it is computed from.
        """
        written = [self.row.home(s.output) for s in self.stages if not s.reduction]
        own = [s.output for s in self.stages]
        read = [
            self.row.home(x.source)
            for s in self.stages for x in loads(s.value)
            if not any(x.source.same_as(o) for o in own)
        ]  # fmt: skip
        return not any(w.same_as(r) for w in written for r in read)

    def at(self, stage: Stage, outer: Sequence[Expr], i: Expr) -> dict[Any, Expr]:
        groups = self.row.rows.groups
        values: dict[Any, Expr] = {}
        for group, position in zip(groups, (*outer, i), strict=True):
            values.update(unfuse(self.axes(stage, group), position))
        return values

    def element(self, stage: Stage, outer: Sequence[Expr], i: Expr) -> Expr:
        return self.row.value(stage, self.values[stage.output], self.at(stage, outer, i))

    def keep(self, stage: Stage, outer: Sequence[Expr], i: Expr, value: Expr) -> Stmt:
        inner = self.at(stage, outer, i)
        lead = self.row.rows.lead
        at = [*self.row.lead, *[inner.get(a.var, index(0)) for a in stage.spatial[lead:]]]
        return self.row.element_at(
            stage.output, at, lambda buffer, v, *where: store(buffer, v, *where), value
        )

    def vector(self, outer: Sequence[Expr], start: Expr, part: int, seen: int = 0) -> Stmt:
        """A vector of every stage; the first ``seen`` lanes were summed before."""

        def of(stage: Stage) -> Stmt:
            def lane(v: Expr) -> Stmt:
                value = self.element(stage, outer, start + v)
                if not stage.reduction:
                    return self.keep(stage, outer, start + v, value)
                if seen:
                    value = tirx.Select(v >= index(seen), value, start_of(stage))
                acc = self.sums[stage.output][part]
                return store(acc, _combined(stage, load(acc, v), value), v)

            return self.lane_loop(self.lanes, lane)

        return seq(*[of(stage) for stage in self.stages])

    def single(self, outer: Sequence[Expr], i: Expr) -> Stmt:
        def of(stage: Stage) -> Stmt:
            value = self.element(stage, outer, i)
            if not stage.reduction:
                return self.keep(stage, outer, i, value)
            acc = self.rest[stage.output]
            return store(acc, _combined(stage, load(acc, 0), value), 0)

        return seq(*[of(stage) for stage in self.stages])

    def ends(self) -> list[Stmt]:
        """Partial results combined into the value of the row."""
        ends = []
        for stage in self.stages:
            if stage.reduction:
                ends += self.folded(stage)
                total = load(self.sums[stage.output][0], 0)
                rest = load(self.rest[stage.output], 0)
                ends.append(self.row.finish(stage, _combined(stage, total, rest)))
        return ends

    def folded(self, stage: Stage) -> list[Stmt]:
        parts = list(self.sums[stage.output])
        steps = []
        while len(parts) > 1:
            half = len(parts) // 2
            for a, b in zip(parts[:half], parts[half:], strict=True):
                steps.append(self.lane_loop(self.lanes, lambda v, a=a, b=b: store(
                    a, _combined(stage, load(a, v), load(b, v)), v)))  # fmt: skip
            parts = parts[:half]
        return [*steps, *folded(parts[0], self.lanes, partial(_combined, stage))]


def _combined(stage: Stage, a: Expr, b: Expr) -> Expr:
    made = combination_of(stage)
    assert made is not None  # a stage of a run
    return made[0](a, b)
