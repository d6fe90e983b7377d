"""Where the values of a run of stages that work row by row (``rows``) are kept, in one row.

Elements that one stage leaves to a later one are kept in the row of the output where they fit, so
they take no memory of their own; a value of the whole row has a cell of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from motet.targets.host.exprs import rewrite, same_expr, substitute
from motet.targets.host.kernels.rows import Rows
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    constant_of,
    index,
    load,
    scratch,
    seq,
    store,
)  # fmt: skip
from motet.targets.host.machine import Machine
from motet.targets.host.stages import Stage


@dataclass
class Row:
    """One row of a run of stages, and where their values are kept while it is worked on.

    lead: its indices. scalars: by a stage's output, the cell for a value of the whole row. kept: by
    a stage's output, the buffer for its elements where that is another.
    """

    rows: Rows
    machine: Machine
    lead: Sequence[Expr]
    scalars: dict[Buffer, Buffer] = field(default_factory=dict)
    kept: dict[Buffer, Buffer] = field(default_factory=dict)

    def is_element(self, stage: Stage) -> bool:
        """Whether ``stage`` has a value for every element of the row."""
        return not stage.reduction and bool(self.rows.inner(stage))

    def places(self) -> list[Buffer]:
        """Decides where all values are kept; buffers to allocate."""
        for stage in self.rows.stages:
            if not self.is_element(stage):
                self.scalars[stage.output] = scratch(stage.output.name, [1], stage.output.dtype)
        return [*self.scalars.values(), *self.keep_elements()]

    def keep_elements(self) -> list[Buffer]:
        """Decides where elements that later stages read are kept; buffers to allocate."""
        new = []
        for stage in self.rows.stages:
            if not self.is_element(stage) or self.rows.shows(stage.output):
                continue
            host = self.host_of(stage)
            if host is None:
                host = scratch(stage.output.name, stage.output.shape[self.rows.lead :],
                               stage.output.dtype)  # fmt: skip
                new.append(host)
            self.kept[stage.output] = host
        return new

    def host_of(self, stage: Stage) -> Buffer | None:
        """The output whose row can hold the elements of ``stage``: one that is written when
        nobody but itself reads them any more.
        """
        last = self.rows.stages[-1]
        same = (
            self.is_element(last)
            and last.output.dtype == stage.output.dtype
            and len(last.output.shape) == len(stage.output.shape)
            and all(map(same_expr, last.output.shape, stage.output.shape))
        )
        taken = any(host.same_as(last.output) for host in self.kept.values())
        return last.output if same and not taken and self.rows.shows(last.output) else None

    def value(self, stage: Stage, value: Expr, inner: Mapping[Any, Expr]) -> Expr:
        """``value`` of ``stage`` in this row, at ``inner`` within it."""

        def in_row(e: Expr) -> Expr | None:
            source = getattr(e, "source", None)
            if source is None or not self.rows.makes(source):
                return None
            if source in self.scalars:
                return load(self.scalars[source], 0)
            return self.element_at(source, list(e.indices), load)

        axes = {a.var: i for a, i in zip(stage.spatial, self.lead, strict=False)}
        rest = stage.spatial[self.rows.lead :]
        axes |= {a.var: index(0) for a in (*rest, *stage.reduction) if constant_of(a.extent) == 1}
        return substitute(rewrite(value, in_row), {**axes, **inner})

    def home(self, buffer: Buffer) -> Buffer:
        """Where the elements of ``buffer`` are kept."""
        return self.kept.get(buffer, buffer)

    def element_at(self, buffer: Buffer, at: Sequence[Expr], access: Any, *value: Expr) -> Any:
        """``access`` (load or store) to where the element ``at`` of ``buffer`` is kept."""
        host = self.home(buffer)
        indices = list(at) if len(host.shape) == len(buffer.shape) else list(at)[self.rows.lead :]
        return access(host, *value, *indices)

    def finish(self, stage: Stage, value: Expr) -> Stmt:
        """Keeps the value that ``stage`` has for the row."""
        own = self.scalars[stage.output]
        shown = None
        if self.rows.shows(stage.output):
            tail = [index(0)] * (len(stage.spatial) - self.rows.lead)
            shown = store(stage.output, load(own, 0), *self.lead, *tail)
        return seq(store(own, value, 0), shown)
