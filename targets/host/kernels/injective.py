"""Element-wise stages: one parallel, vectorised loop nest for each.

Adjacent axes are first fused wherever every access allows it (so that a small last axis
does not stand in the way of vectors), then the nest is::

    parallel for outer axes:
        for last axis in vectors: output[...] = value

Where the value branches on the last axis, as padding and concatenation do, that axis is cut
where a condition changes, so that every piece is without branches (``segments``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tvm import tirx
from tvm.ir.expr import Var

from motet.targets.host.exprs import is_axis, loads, rewrite, same_expr, substitute, walk
from motet.targets.host.kernels.segments import branches_on, segments
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.loops import (
    Expr,
    Stmt,
    constant_of,
    index,
    loop,
    nest,
    parallel,
    product,
    seq,
    simplify,
    store,
)  # fmt: skip
from motet.targets.host.machine import Machine
from motet.targets.host.stages import Axis, Stage

# Elements times nodes of the expression from which a parallel launch saves time: 4 us of a ReLU in
# the second-level cache. A launch that a second thread joins costs 1 us (docs/HOST_THREADS.md), so
# half of 2 us is saved by none, and of 4 us a quarter.
PARALLEL_WORK = 240_000


def lanes_for(machine: Machine, dtype: str) -> int:
    """Elements of ``dtype`` in a register, those of one byte counted as of two."""
    bits = max(16, tirx.const(0, dtype).ty.dtype.bits if dtype != "bool" else 16)
    return machine.vector_bytes * 8 // int(bits)


def worth_parallel(extents: list[Expr], work_per_element: int, machine: Machine) -> bool:
    """Whether a nest is large enough for several threads; symbolic sizes count as large."""
    if machine.cores == 1:
        return False
    total = constant_of(product(extents)) if extents else 1
    return total is None or total * work_per_element >= PARALLEL_WORK


def axes_fuse(value: Expr, first: Axis, second: Axis, apart: Any = None) -> bool:
    """Whether two axes always appear together, as one range of memory.

    Loads of the buffer ``apart`` are not looked at.
    """
    inside = outside = 0
    for access in loads(value):
        if apart is not None and access.source.same_as(apart):
            outside += _uses(access, first.var)
            continue
        for p, i in enumerate(access.indices):
            if not _uses(i, first.var):
                continue
            if not is_axis(i, first.var) or p + 1 == len(access.indices):
                return False
            whole = same_expr(access.source.shape[p + 1], second.extent)
            if not (is_axis(access.indices[p + 1], second.var) and whole):
                return False
            inside += 1
    return all(_uses(value, a.var) - outside == inside for a in (first, second))


def _uses(expr: Expr, var: Var) -> int:
    return sum(is_axis(e, var) for e in walk(expr))


def _fused_groups(stage: Stage) -> list[list[Axis]]:
    groups: list[list[Axis]] = []
    for k, axis in enumerate(stage.spatial):
        if k and axes_fuse(stage.value, stage.spatial[k - 1], axis):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def unfuse(group: Sequence[Axis], flat: Expr) -> dict[Var, Expr]:
    """Values of fused axes, from the index along all of them."""
    values: dict[Var, Expr] = {}
    for axis in reversed(group[1:]):
        values[axis.var] = tirx.floormod(flat, axis.extent)
        flat = tirx.floordiv(flat, axis.extent)
    values[group[0].var] = flat
    return values


_CHUNK = 4096
# Elements below which an iteration of a parallel loop is mostly its own index arithmetic.
_GRAIN = 1024
# Enlargements of the last axis that are written out.
_REPETITIONS = (2, 3, 4)
# Iterations of a parallel loop for each core that balance well enough.
_PER_CORE = 8


def _together(value: Expr) -> int:
    """Vectors of an iteration: several of a polynomial, whose constants are all the registers."""
    return 4 if any(isinstance(e, tirx.Let) for e in walk(value)) else 1


def _serial_axes(outer: Sequence[Expr], inner: Expr, cores: int) -> int:
    """How many of the last ``outer`` axes become serial loops around the inner one."""
    size, count = constant_of(inner), 0
    while size is not None and size < _GRAIN and count < len(outer):
        rest = constant_of(product(outer[: len(outer) - count - 1]))
        if rest is not None and rest < _PER_CORE * cores:
            break
        count, extent = count + 1, constant_of(outer[len(outer) - count - 1])
        size = None if extent is None else size * extent
    return count


def _repetition(value: Expr, group: Sequence[Axis]) -> int:
    """How often every cell of an enlarged axis comes in a row: ``axis // repetition``; else 1."""
    extent, axis = constant_of(group[-1].extent), group[-1].var
    divisors = {
        constant_of(e.b) for e in walk(value)
        if isinstance(e, tirx.FloorDiv) and is_axis(e.a, axis)
    }  # fmt: skip
    times = divisors.pop() if len(divisors) == 1 else None
    fits = len(group) == 1 and times in _REPETITIONS and extent is not None
    return times if times is not None and fits and (extent or 0) % times == 0 else 1


def _at_repetition(value: Expr, axis: Var, cell: Expr, times: int) -> Expr:
    """``value`` with ``axis // times`` known to be ``cell``."""

    def known(e: Expr) -> Expr | None:
        return cell if isinstance(e, tirx.FloorDiv) and is_axis(e.a, axis) else None

    return rewrite(value, known)


def emit_injective(stage: Stage, machine: Machine) -> Stmt:
    """The loop nest of an element-wise stage."""
    output, axes = stage.output, [a.var for a in stage.spatial]
    if not axes:
        return store(output, stage.value)
    groups = _fused_groups(stage)
    inner = product([a.extent for a in groups[-1]])
    outer = [product([a.extent for a in g]) for g in groups[:-1]]
    lanes = lanes_for(machine, output.dtype)
    size = constant_of(inner)
    pieces = segments(stage.value, groups[-1]) if size is not None else []
    whole = size is not None and (size <= 2 * _CHUNK or len(pieces) > 1)
    chunk = size if whole and size is not None else _CHUNK
    chunks = simplify(tirx.floordiv(inner + chunk - 1, index(chunk)))

    times = _repetition(stage.value, groups[-1]) if whole and len(pieces) < 2 else 1

    def repeated(lead: Mapping[Var, Expr]) -> Stmt:
        """Single elements, but all that read a cell side by side: LLVM makes shuffles of that."""
        axis = groups[-1][0].var

        def cell(q: Expr) -> Stmt:
            value = _at_repetition(stage.value, axis, q, times)
            every = [{**lead, axis: q * times + r} for r in range(times)]
            return seq(*[store(output, substitute(value, at), *[at[v] for v in axes])
                         for at in every])  # fmt: skip

        return loop("i", (size or 0) // times, cell)

    def run(lead: Mapping[Var, Expr], value: Expr, start: Expr, count: Expr) -> Stmt:
        def element(i: Expr) -> Stmt:
            every = {**lead, **unfuse(groups[-1], start + i)}
            return store(output, substitute(value, every), *[every[v] for v in axes])

        scalar = any(branches_on(value, a.var) for a in groups[-1])
        return vector_loop("i", count, 1 if scalar else lanes, element, _together(value))

    def one_row(*at: Expr) -> Stmt:
        values: dict[Var, Expr] = {}
        for group, flat in zip(groups[:-1], at[:-1], strict=True):
            values.update(unfuse(group, flat))
        if times > 1:
            return repeated(values)
        if len(pieces) > 1:
            return seq(*[run(values, v, index(a), index(b - a)) for a, b, v in pieces])
        start = at[-1] * chunk
        return run(values, stage.value, start, simplify(tirx.min(index(chunk), inner - start)))

    names = [f"o{k}" for k in range(len(outer))]
    work = worth_parallel([*outer, inner], len(walk(stage.value)), machine)
    serial = _serial_axes(outer, inner, machine.cores) if constant_of(chunks) == 1 else 0
    if not serial:
        return parallel([*names, "chunk"], [*outer, chunks], one_row, work)
    first = len(outer) - serial

    def rows(*at: Expr) -> Stmt:
        return nest(names[first:], outer[first:], lambda *last: one_row(*at, *last, index(0)))

    return parallel(names[:first], outer[:first], rows, work)
