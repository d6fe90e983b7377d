"""Stages that work row by row (softmax, normalisations) in one loop over rows.

Several stages whose values at ``[row, ...]`` need of each other only what has the same ``row``
(one or more leading axes) become one nest; what one hands to the next is a row that stays in
the cache, instead of a tensor in memory::

    parallel for row:
        for every stage: its own nest over the axes that are left
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tvm import tirx
from tvm.ir.expr import Var

from motet.targets.host.exprs import is_axis, loads, rewrite, same_expr, substitute, walk
from motet.targets.host.kernels.injective import worth_parallel
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    constant_of,
    index,
    load,
    parallel,
    product,
    scratch,
    seq,
    simplify,
)  # fmt: skip
from motet.targets.host.machine import Machine
from motet.targets.host.stages import Axis, Stage, StagedFunction

_ROW_BYTES = 256 * 1024


@dataclass(frozen=True, eq=False)
class Rows:
    """Stages that share their first ``lead`` axes."""

    stages: tuple[Stage, ...]
    lead: int

    @property
    def extents(self) -> list[Expr]:
        """Extents of the leading axes."""
        return [a.extent for a in self.stages[0].spatial[: self.lead]]


def _shared_axes(stages: Sequence[Stage], lead: int) -> bool:
    """Whether the stages have the first ``lead`` axes in common, and never leave their row."""
    first = stages[0].spatial[:lead]
    made = [s.output for s in stages]
    for stage in stages:
        own = stage.spatial[:lead]
        if not all(same_expr(a.extent, b.extent) for a, b in zip(own, first, strict=True)):
            return False
        for access in loads(stage.value):
            if not any(access.source.same_as(b) for b in made):
                continue
            if len(access.indices) < lead:
                return False
            if not all(is_axis(i, a.var) for i, a in zip(access.indices, own, strict=False)):
                return False
    return True


def find_rows(func: StagedFunction, machine: Machine) -> Rows | None:
    """The stages of ``func`` as work on rows; None where one loop would not pay."""
    stages = func.stages
    if len(stages) < 2 or not any(s.reduction for s in stages):
        return None
    if any(s.opaque or "motet.anchor" in s.attrs or len(s.outputs) != 1 for s in stages):
        return None
    lead = min(len(s.spatial) for s in stages)
    while lead and not _shared_axes(stages, lead):
        lead -= 1
    found = Rows(tuple(stages), lead)
    return found if lead and _pays(found, machine) else None


def _pays(rows: Rows, machine: Machine) -> bool:
    """Not for rows that overflow the cache, nor for so few that cores would stay idle."""
    count = constant_of(product(rows.extents))
    sizes = [constant_of(product(s.output.shape[rows.lead :])) or 1 for s in rows.stages]
    if 4 * sum(sizes) > _ROW_BYTES:
        return False
    return count is None or count >= 4 * machine.cores or not _large(rows, machine)


def _large(rows: Rows, machine: Machine) -> bool:
    longest = max(rows.stages, key=lambda s: len(s.spatial) + len(s.reduction))
    extents = [a.extent for a in (*longest.spatial, *longest.reduction)]
    return worth_parallel(extents, sum(len(walk(s.value)) for s in rows.stages), machine)


def _row_of(buffer: Buffer, lead: Sequence[Expr], own: bool) -> tuple[Buffer, Stmt]:
    """A buffer for one row of ``buffer``, in ``buffer`` itself where ``own``; its declaration."""
    shape = buffer.shape[len(lead) :]
    if not own:
        row = scratch(buffer.name, shape or [1], buffer.dtype)
        return row, allocate(row)
    flat: Expr = index(0)
    for i, extent in zip(lead, buffer.shape, strict=False):
        flat = flat * extent + i
    offset = simplify(flat * product(shape))
    row = tirx.decl_buffer(
        shape or [1], buffer.dtype, buffer.name, data=buffer.data, elem_offset=offset
    )
    return row, tirx.DeclBuffer(row, data=buffer.data)


def emit_rows(
    rows: Rows, outputs: Sequence[Buffer], machine: Machine, emit: Callable[[Stage, Machine], Stmt]
) -> Stmt:
    """The nest; ``emit`` writes the part of one stage."""
    one_core = replace(machine, cores=1)

    def row(*at: Expr) -> Stmt:
        names = [tirx.Var(f"row{k}", "int64") for k in range(rows.lead)]
        lead: list[Expr] = list(names)
        made = [
            (s.output, *_row_of(s.output, lead, any(s.output.same_as(o) for o in outputs)))
            for s in rows.stages
        ]
        parts = [emit(_in_row(s, rows.lead, lead, made), one_core) for s in rows.stages]
        binds = [tirx.Bind(v, i) for v, i in zip(names, at, strict=True)]
        return seq(*binds, *[declare for _, _, declare in made], *parts)

    names = [f"r{k}" for k in range(rows.lead)]
    return parallel(names, rows.extents, row, _large(rows, machine))


def _in_row(
    stage: Stage, count: int, lead: Sequence[Expr], made: Sequence[tuple[Buffer, Buffer, Stmt]]
) -> Stage:
    """``stage`` with its leading axes fixed, over rows instead of tensors."""
    fixed: dict[Var, Expr] = {a.var: i for a, i in zip(stage.spatial[:count], lead, strict=True)}

    def in_row(e: Expr) -> Expr | None:
        for whole, row, _ in made:
            if hasattr(e, "source") and e.source.same_as(whole):
                return load(row, *(list(e.indices[count:]) or [0]))
        return None

    value = substitute(rewrite(stage.value, in_row), fixed)
    output = next(row for whole, row, _ in made if stage.output.same_as(whole))
    # A row that is a single value still has an axis, since its buffer has.
    rest = stage.spatial[count:] or (Axis(tirx.Var("one", "int64"), index(1)),)
    return replace(stage, outputs=(output,), spatial=rest, value=value)
