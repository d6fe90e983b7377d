"""Stages that work row by row: softmax, normalisations, statistics along the last axes.

Several stages that share their leading axes, and need of each other only what has the same
place on these, become one nest over rows; a row is read from memory once and stays in the
cache while several sweeps go over it (``row_sweeps``)::

    parallel for row:
        sweep: maximum              of every x[row, ..]
        sweep: e = exp(x - maximum), sum of every e
        sweep: y = e / sum

A stage of the run is a *reduction* over the inner axes (one value for a row), a *scalar*
stage (one value for a row, computed from such values) or an *element* stage (a value for
every place of a row). ``find_rows`` says which stages of a unit form such a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.ir import Call

from motet.targets.host.exprs import is_axis, loads, mentions, same_expr, walk
from motet.targets.host.kernels.combining import combination_of
from motet.targets.host.kernels.injective import axes_fuse
from motet.targets.host.loops import Buffer, Expr, constant_of, product
from motet.targets.host.machine import Machine
from motet.targets.host.stages import Axis, Stage, StagedFunction, readers

_MOST_ROW_BYTES = 1 << 20
_LONG_ROW = 1 << 16


@dataclass(frozen=True, eq=False)
class Rows:
    """A run of stages over rows.

    stages: in order. lead: how many leading axes they share. groups: the inner axes that are
    longer than 1, by number, those together that are one range of memory in every access.
    visible: buffers of the run that are read outside of it, or by the caller.
    """

    stages: tuple[Stage, ...]
    lead: int
    groups: tuple[tuple[int, ...], ...]
    visible: tuple[Buffer, ...]

    @property
    def extents(self) -> list[Expr]:
        """Extents of the leading axes."""
        return [a.extent for a in self.stages[0].spatial[: self.lead]]

    def inner(self, stage: Stage) -> list[Axis]:
        """The axes of ``stage`` that run within a row; none where it is one value."""
        return long_axes(stage.reduction or stage.spatial[self.lead :])

    def makes(self, buffer: Buffer) -> bool:
        """Whether a stage of the run fills ``buffer``."""
        return any(s.output.same_as(buffer) for s in self.stages)

    def shows(self, buffer: Buffer) -> bool:
        """Whether ``buffer`` must be in memory after the run."""
        return any(b.same_as(buffer) for b in self.visible)


def long_axes(axes: Sequence[Axis]) -> list[Axis]:
    """Those whose extent is not 1."""
    return [a for a in axes if constant_of(a.extent) != 1]


def find_rows(func: StagedFunction, machine: Machine) -> Rows | None:
    """The longest run of at least two stages that starts earliest; None where there is none."""
    stages = func.stages
    for first, stage in enumerate(stages):
        if not stage.reduction:
            continue
        for last in range(len(stages), first + 1, -1):
            found = _run(func, stages[first:last])
            if found is not None and _pays(found, machine):
                return found
    return None


def _run(func: StagedFunction, stages: Sequence[Stage]) -> Rows | None:
    if any(s.opaque or "motet.anchor" in s.attrs or len(s.outputs) != 1 for s in stages):
        return None
    first = stages[0]
    lead = len(first.spatial)
    while lead and constant_of(first.spatial[lead - 1].extent) == 1:
        lead -= 1
    inner = [a.extent for a in long_axes(first.reduction)]
    if not inner or not all(_has_form(s, first, lead, inner) for s in stages):
        return None
    if not all(_stays_in_row(s, stages, lead) and _is_contiguous(s, lead) for s in stages):
        return None
    visible = [s.output for s in stages if _seen_outside(s.output, func, stages)]
    return Rows(tuple(stages), lead, _groups(stages, lead, len(inner)), tuple(visible))


def _seen_outside(buffer: Buffer, func: StagedFunction, stages: Sequence[Stage]) -> bool:
    is_output = any(buffer.same_as(b) for b in func.outputs)
    return is_output or any(s not in stages for s in readers(func.stages, buffer))


def _same_extents(left: Sequence[Expr], right: Sequence[Expr]) -> bool:
    return len(left) == len(right) and all(map(same_expr, left, right))


def _has_form(stage: Stage, first: Stage, lead: int, inner: Sequence[Expr]) -> bool:
    """Whether ``stage`` is a reduction, a scalar or an element stage over the same rows."""
    leading = [a.extent for a in stage.spatial[:lead]]
    if not _same_extents(leading, [a.extent for a in first.spatial[:lead]]):
        return False
    rest = [a.extent for a in long_axes(stage.spatial[lead:])]
    if stage.reduction:
        reduced = [a.extent for a in long_axes(stage.reduction)]
        return not rest and _combines_numbers(stage) and _same_extents(reduced, inner)
    return not rest or _same_extents(rest, inner)


def _combines_numbers(stage: Stage) -> bool:
    truths = isinstance(stage.value, tirx.And | tirx.Or)
    return not truths and combination_of(stage) is not None


def _stays_in_row(stage: Stage, stages: Sequence[Stage], lead: int) -> bool:
    """Whether what the run itself makes is read at the stage's own place."""
    own = long_axes(stage.reduction or stage.spatial[lead:])
    for access in loads(stage.value):
        maker = next((s for s in stages if s.output.same_as(access.source)), None)
        if maker is None or maker is stage:
            continue
        if stages.index(maker) > stages.index(stage):
            return False
        at = list(zip(access.indices, maker.spatial, strict=True))
        if not all(
            is_axis(i, a.var) or constant_of(a.extent) == 1
            for (i, _), a in zip(at[:lead], stage.spatial, strict=False)
        ):
            return False
        within = [i for i, a in at[lead:] if constant_of(a.extent) != 1]
        if within and (
            len(within) != len(own) or not all(map(is_axis, within, [a.var for a in own]))
        ):
            return False
    return True


def _is_contiguous(stage: Stage, lead: int) -> bool:
    """Whether neighbours in a row are neighbours in memory wherever elements are read."""
    if any(isinstance(e, Call) and str(e.op.name).endswith("if_then_else")
           for e in walk(stage.value)):  # fmt: skip
        return False
    own = long_axes(stage.reduction or stage.spatial[lead:])
    if not own:
        return True
    last = own[-1]
    return all(
        not mentions(i, last.var) for x in loads(stage.value) for i in x.indices[:-1]
    ) and all(
        is_axis(x.indices[-1], last.var) or not mentions(x.indices[-1], last.var)
        for x in loads(stage.value) if len(x.indices)
    )  # fmt: skip


def _groups(stages: Sequence[Stage], lead: int, count: int) -> tuple[tuple[int, ...], ...]:
    groups: list[list[int]] = [[0]]
    for k in range(1, count):
        if all(_fuse_at(s, lead, k) for s in stages):
            groups[-1].append(k)
        else:
            groups.append([k])
    return tuple(map(tuple, groups))


def _fuse_at(stage: Stage, lead: int, k: int) -> bool:
    own = long_axes(stage.reduction or stage.spatial[lead:])
    return not own or axes_fuse(stage.value, own[k - 1], own[k], stage.output)


def _pays(rows: Rows, machine: Machine) -> bool:
    """Not for rows that overflow the cache, nor for a few long ones, which idle cores."""
    first = rows.stages[0]
    size = constant_of(product([a.extent for a in first.reduction])) or 1
    bits = tirx.const(0, str(first.output.dtype)).ty.dtype.bits
    if size * int(bits) // 8 > _MOST_ROW_BYTES:
        return False
    count = constant_of(product(rows.extents)) if rows.extents else 1
    return count is None or machine.cores == 1 or count >= 2 * machine.cores or size < _LONG_ROW


def scalar_division(value: Expr, axes: Sequence[Axis]) -> list[Any]:
    """Divisions in ``value`` of elements by a float32 that is the same all over a row."""
    variables = [a.var for a in axes]
    return [
        e for e in walk(value)
        if isinstance(e, tirx.Div) and str(e.ty.dtype) == "float32"
        and mentions(e.a, *variables) and not mentions(e.b, *variables)
    ]  # fmt: skip
