"""Reductions and pooling: one element of the result is a sum, a maximum, ... over some axes.

Two nests. Where neighbouring results read neighbouring elements (pooling, a reduction over
an outer axis), results are computed side by side, a vector of accumulators running over the
whole reduction::

    parallel for outer spatial axes:
        for the last spatial axis, a few vectors at a time:
            acc[v] = init;  for reduction: acc[v] = combine(acc[v], x[v])

where a single vector of them (a block of channels) takes several elements in turn, as one
chain of additions is slower than memory.

Where the reduction itself runs over neighbouring elements (a mean or a maximum of a row),
each lane accumulates every ``lanes``-th element and the lanes are combined at the end, which
reassociates sums::

    parallel for spatial axes:
        acc[v] = init;  for reduction in vectors: acc[v] = combine(acc[v], x[v])
        result = acc combined, half onto half
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tvm import tirx
from tvm.ir.expr import Var

from motet.targets.host.exprs import loads, mentions, rewrite, substitute, walk
from motet.targets.host.kernels.combining import Combine, combination_of, folded
from motet.targets.host.kernels.injective import axes_fuse, lanes_for, unfuse, worth_parallel
from motet.targets.host.loops import (
    VECTORIZED,
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
from motet.targets.host.stages import Axis, Stage

_ACCUMULATED_VECTORS = 4
_CHAINS = 4


def _runs_along(stage: Stage, var: Var) -> bool:
    """Whether neighbours along ``var`` are neighbours in memory, in some load."""
    inputs = [x for x in loads(stage.value) if not x.source.same_as(stage.output)]
    return any(len(x.indices) and mentions(x.indices[-1], var) for x in inputs)


def _with_accumulator(stage: Stage, accumulator: Expr, values: Mapping[Var, Expr]) -> Expr:
    def replaced(e: Expr) -> Expr | None:
        return accumulator if hasattr(e, "source") and e.source.same_as(stage.output) else None

    return substitute(rewrite(stage.value, replaced), values)


def start_of(stage: Stage) -> Expr:
    """What the accumulators start at: for extremes of floats an infinity.

    TVM starts at the largest finite number, which a row of infinities would turn into.
    """
    dtype = str(stage.output.dtype)
    if not dtype.startswith("float") or not isinstance(stage.value, tirx.Max | tirx.Min):
        return stage.init
    return tirx.const(float("-inf" if isinstance(stage.value, tirx.Max) else "inf"), dtype)


def _groups(stage: Stage, axes: Sequence[Axis]) -> list[list[Axis]]:
    groups: list[list[Axis]] = []
    for k, axis in enumerate(axes):
        if k and axes_fuse(stage.value, axes[k - 1], axis, stage.output):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def _extent(group: Sequence[Axis]) -> Expr:
    return product([a.extent for a in group])


def _widths(extent: Expr, lanes: int) -> list[tuple[Expr, Expr, int]]:
    """(start, count, width): how to cover ``extent`` with ever narrower vectors."""
    pieces = []
    start: Expr = index(0)
    for width in dict.fromkeys((lanes * _ACCUMULATED_VECTORS, lanes, 1)):
        count = simplify(tirx.floordiv(extent - start, index(width)))
        if constant_of(count) != 0:
            pieces.append((start, count, width))
        start = simplify(start + count * width)
    return pieces


def _pieces(
    name: str, pieces: Sequence[tuple[Expr, Expr, int]], body: Callable[[Expr, int], Stmt]
) -> Stmt:
    """``body(start, width)`` for every vector of ``pieces``."""

    def piece(start: Expr, count: Expr, width: int) -> Stmt:
        return loop(name, count, lambda i: body(start + i * width, width))

    return seq(*[piece(*p) for p in pieces])


def _lane_loop(width: int, body: Callable[[Expr], Stmt]) -> Stmt:
    return loop("lane", width, body, VECTORIZED)


def _side_by_side(stage: Stage, machine: Machine, lanes: int) -> Stmt:
    *outer, last = stage.spatial
    axes = [a.var for a in stage.spatial]
    accumulators = {
        w: scratch(f"acc{w}", [w], stage.output.dtype) for _, _, w in _widths(last.extent, lanes)
    }

    def block(lead: Sequence[Expr], start: Expr, width: int) -> Stmt:
        if width == lanes and _chained(stage):
            return _chains(stage, lead, start, width)
        acc = accumulators[width]

        def step(*at: Expr) -> Stmt:
            def lane(v: Expr) -> Stmt:
                values = dict(zip(axes, [*lead, start + v], strict=True))
                values.update(zip((a.var for a in stage.reduction), at, strict=True))
                return store(acc, _with_accumulator(stage, load(acc, v), values), v)

            return _lane_loop(width, lane)

        names = [f"r{i}" for i in range(len(stage.reduction))]
        return seq(
            allocate(acc),
            _lane_loop(width, lambda v: store(acc, start_of(stage), v)),
            nest(names, [a.extent for a in stage.reduction], step),
            _lane_loop(width, lambda v: store(stage.output, load(acc, v), *lead, start + v)),
        )

    def row(*lead: Expr) -> Stmt:
        return _pieces("x", _widths(last.extent, lanes), lambda i, w: block(lead, i, w))

    return _over(outer, row, _is_large(stage, machine))


def _chained(stage: Stage) -> bool:
    """Whether one vector of accumulators would wait for itself over a long reduction."""
    if combination_of(stage) is None:
        return False
    steps = constant_of(_extent(_groups(stage, stage.reduction)[-1]))
    return steps is not None and steps >= 2 * _CHAINS


def _chains(stage: Stage, lead: Sequence[Expr], start: Expr, width: int) -> Stmt:
    """One vector of results, each lane from every ``_CHAINS``-th element in turn."""
    made = combination_of(stage)
    assert made is not None  # ``_chained`` stages are such
    combine, _ = made
    *outer, inner = _groups(stage, stage.reduction)
    steps = constant_of(_extent(inner)) or 0
    acc = scratch("chains", [_CHAINS * width], stage.output.dtype)
    axes = [a.var for a in stage.spatial]

    def step(at: Sequence[Expr], i: Expr, chain: int) -> Stmt:
        def lane(v: Expr) -> Stmt:
            values = dict(zip(axes, [*lead, start + v], strict=True))
            for group, k in zip((*outer, inner), (*at, i), strict=True):
                values.update(unfuse(group, k))
            own = chain * width + v
            return store(acc, _with_accumulator(stage, load(acc, own), values), own)

        return _lane_loop(width, lane)

    def steps_of(*at: Expr) -> Stmt:
        rest = range(steps // _CHAINS * _CHAINS, steps)
        return seq(
            loop(
                "k", steps // _CHAINS,
                lambda k: seq(*[step(at, k * _CHAINS + c, c) for c in range(_CHAINS)]),
            ),
            *[step(at, index(i), i % _CHAINS) for i in rest],
        )  # fmt: skip

    names = [f"r{i}" for i in range(len(outer))]
    return seq(
        allocate(acc),
        _lane_loop(_CHAINS * width, lambda v: store(acc, start_of(stage), v)),
        nest(names, [_extent(g) for g in outer], steps_of),
        *folded(acc, _CHAINS * width, combine, width),
        _lane_loop(width, lambda v: store(stage.output, load(acc, v), *lead, start + v)),
    )


def _across_lanes(stage: Stage, machine: Machine, lanes: int, combine: Combine) -> Stmt:
    *outer_groups, inner = _groups(stage, stage.reduction)
    axes = [a.var for a in stage.spatial]
    extent = _extent(inner)
    pieces = _widths(extent, lanes)
    width = max(w for _, _, w in pieces)
    acc = scratch("acc", [width], stage.output.dtype)

    def element(lead: Sequence[Expr], *at: Expr) -> Stmt:
        values = dict(zip(axes, lead, strict=True))
        for group, i in zip(outer_groups, at, strict=True):
            values.update(unfuse(group, i))

        def step(i: Expr, w: int) -> Stmt:
            def lane(v: Expr) -> Stmt:
                every = {**values, **unfuse(inner, i + v)}
                return store(acc, _with_accumulator(stage, load(acc, v), every), v)

            return _lane_loop(w, lane)

        return _pieces("k", pieces, step)

    def whole(*lead: Expr) -> Stmt:
        names = [f"r{i}" for i in range(len(outer_groups))]
        return seq(
            allocate(acc),
            _lane_loop(width, lambda v: store(acc, start_of(stage), v)),
            nest(names, [_extent(g) for g in outer_groups], lambda *at: element(lead, *at)),
            *folded(acc, width, combine),
            store(stage.output, load(acc, 0), *lead),
        )

    return _over(stage.spatial, whole, _is_large(stage, machine))


def _over(axes: Sequence[Axis], body: Callable[..., Stmt], parallel_: bool) -> Stmt:
    if not axes:
        return body()
    return parallel([f"s{i}" for i in range(len(axes))], [a.extent for a in axes], body, parallel_)


def _is_large(stage: Stage, machine: Machine) -> bool:
    extents = [a.extent for a in (*stage.spatial, *stage.reduction)]
    return worth_parallel(extents, len(walk(stage.value)), machine)


def emit_reduction(stage: Stage, machine: Machine) -> Stmt:
    """The loop nest of a reduction."""
    lanes = lanes_for(machine, stage.output.dtype)
    made = combination_of(stage)
    rows = made is not None and _runs_along(stage, stage.reduction[-1].var)
    if stage.spatial and _runs_along(stage, stage.spatial[-1].var):
        extent = constant_of(stage.spatial[-1].extent)
        if not rows or extent is None or extent >= lanes:
            return _side_by_side(stage, machine, lanes)
    if made is not None:
        return _across_lanes(stage, machine, lanes, made[0])
    if stage.spatial:
        return _side_by_side(stage, machine, 1)
    return _serial(stage)


def _serial(stage: Stage) -> Stmt:
    def step(*at: Expr) -> Stmt:
        values = dict(zip((a.var for a in stage.reduction), at, strict=True))
        return store(stage.output, substitute(stage.value, values))

    names = [f"r{i}" for i in range(len(stage.reduction))]
    return seq(
        store(stage.output, start_of(stage)),
        nest(names, [a.extent for a in stage.reduction], step),
    )
