"""The stages of a file's models, by what their operators are estimated to cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from motet.scheduling import Work

if TYPE_CHECKING:
    from motet.compiler.unit_work import ModelUnits
    from motet.passes.scheduling.search import Search
    from motet.passes.stage_cost import StageCosts
    from motet.passes.unit_cost import Target
    from motet.passes.units import Unit
    from motet.runtime.schedule import Schedule, Stage

Progress = Callable[[int, int], None]
"""Takes the operators that are scheduled so far, and all there are."""


@dataclass(frozen=True)
class PlannedStage:
    """A stage: titles of the operators of each group, and the pods or threads that it gets.

    is_merged: its operators run as one, which gets them all.
    """

    block: int
    seconds: float
    groups: tuple[tuple[str, ...], ...]
    shares: tuple[int, ...]
    is_merged: bool = False

    @property
    def text(self) -> str:
        """The operators: ``a > b | c`` is c beside a and then b, ``a + b`` are one."""
        between = " + " if self.is_merged else " | "
        return between.join(" > ".join(group) for group in self.groups)

    @property
    def shares_text(self) -> str:
        """What each group gets; what is one gets it once."""
        return " | ".join(map(str, self.shares[:1] if self.is_merged else self.shares))


@dataclass(frozen=True)
class Plan:
    """A model's schedule, and what the simple rules' would take, in seconds.

    resource: what groups share, pods or threads.
    """

    model: str
    target: str
    resource: str
    schedule: Schedule
    stages: tuple[PlannedStage, ...]
    units: Mapping[str, Unit]
    sequential: float
    greedy: float

    @property
    def operators(self) -> int:
        """How many were scheduled."""
        return len(self.units)

    def to_dict(self) -> dict[str, Any]:
        """The schedule and all figures as plain data."""
        import msgspec

        made = msgspec.to_builtins(self.schedule)
        for stage, planned in zip(made["stages"], self.stages, strict=True):
            stage[self.resource] = list(planned.shares)
        return {
            "model": self.model,
            "target": self.target,
            "seconds": self.schedule.seconds,
            "sequential_seconds": self.sequential,
            "greedy_seconds": self.greedy,
            "schedule": made,
            "operators": {
                name: {"kind": unit.kind, "onnx_nodes": list(unit.onnx_nodes)}
                for name, unit in self.units.items()
            },
        }


def planned(work: Work, one: ModelUnits, search: Search, progress: Progress) -> Plan:
    """The best stages of a model that ``search`` finds.

    Raises ``CompileError`` where sizes are open, or an operator does not fit the array.
    """
    from motet.passes.scheduling import inter_operator
    from motet.passes.stage_cost import keys_of, stage_costs

    target = _target(work)
    costs = stage_costs(one.units, target, merge=work.merge)
    keys = keys_of(one.units, merge=work.merge)
    graph = one.units.graph
    found = inter_operator.schedule(graph, costs, keys, search, progress)
    units = one.units.by_name
    return Plan(
        model=one.model,
        target=work.array.name if work.array else "host",
        resource="pods" if work.array else "threads",
        schedule=found,
        stages=tuple(_stage(stage, costs, units) for stage in found.stages),
        units=units,
        sequential=inter_operator.sequential(graph, costs, keys).seconds,
        greedy=inter_operator.greedy(graph, costs, keys).seconds,
    )


def _stage(stage: Stage, costs: StageCosts, units: Mapping[str, Unit]) -> PlannedStage:
    groups = tuple(tuple(units[name].title for name in group) for group in stage.groups)
    if stage.kind == "merged":
        shares = costs.shares(stage.groups[:1]) * len(groups)
        return PlannedStage(stage.block, stage.seconds, groups, shares, is_merged=True)
    return PlannedStage(stage.block, stage.seconds, groups, costs.shares(stage.groups))


def _target(work: Work) -> Target:
    from motet.passes.unit_cost import ArrayTarget, HostTarget
    from motet.targets.host.machine import machine_for

    machine = machine_for(work.cpu)
    host = HostTarget(machine, work.threads or machine.cores)
    return host if work.array is None else ArrayTarget(work.array, work.number_format, host)
