"""The stages of a file's models, by what their operators are estimated to cost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from motet.runtime.progress import Show
from motet.scheduling import Work

if TYPE_CHECKING:
    from motet.compiler.schedule_trial import Trial
    from motet.compiler.unit_work import ModelUnits
    from motet.passes.scheduling.search import Search
    from motet.passes.stage_cost import StageCosts
    from motet.passes.unit_cost import Target
    from motet.passes.units import Unit
    from motet.runtime.schedule import Schedule, Stage

Progress = Callable[[str, int, int], None]
"""Takes what is counted, how many of them are done so far, and all there are."""


@dataclass(frozen=True)
class PlannedStage:
    """A stage: titles of the operators of each group, and the pods or threads that it gets.

    shares: None for a group that the host computes beside an array. is_merged: its operators run
    as one, which gets them all.
    """

    block: int
    seconds: float
    groups: tuple[tuple[str, ...], ...]
    shares: tuple[int | None, ...]
    is_merged: bool = False

    @property
    def text(self) -> str:
        """The operators: ``a > b | c`` is c beside a and then b, ``a + b`` are one."""
        between = " + " if self.is_merged else " | "
        return between.join(" > ".join(group) for group in self.groups)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """The operators and the share of each group; of a merged stage one for all."""
        if self.is_merged:
            return [(self.text, self.shares_text)]
        return [
            (" > ".join(group), _share_text(share))
            for group, share in zip(self.groups, self.shares, strict=True)
        ]

    @property
    def shares_text(self) -> str:
        """What each group gets; what is one gets it once."""
        return " | ".join(map(_share_text, self.shares[:1] if self.is_merged else self.shares))


def _share_text(share: int | None) -> str:
    return "host" if share is None else str(share)


@dataclass(frozen=True)
class Plan:
    """A model's schedule, and what the simple rules' would take, in seconds.

    resource: what groups share, pods or threads. clock_hz: of the array.
    trial: what programs take that were simulated.
    """

    model: str
    target: str
    resource: str
    schedule: Schedule
    stages: tuple[PlannedStage, ...]
    units: Mapping[str, Unit]
    sequential: float
    greedy: float
    clock_hz: float = 0.0
    trial: Trial | None = None

    @property
    def operators(self) -> int:
        """How many were scheduled."""
        return len(self.units)

    def to_dict(self) -> dict[str, Any]:
        """The schedule and all figures as plain data."""
        import msgspec

        made = msgspec.to_builtins(self.schedule)
        for stage, planned in zip(made["stages"], self.stages, strict=True):
            if not planned.is_merged:
                stage[self.resource] = list(planned.shares)
        trial = {} if self.trial is None else {"simulated": msgspec.to_builtins(self.trial)}
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
            **trial,
        }


def planned(work: Work, one: ModelUnits, search: Search, progress: Progress) -> Plan:
    """The stages of a model by the algorithm that is asked for; the best that ``search`` finds.

    Its budget is for pricing the operators and for the search. All are priced, however long that
    takes: without prices there is nothing to say.

    Raises ``CompileError`` where sizes are open, or an operator does not fit the array.
    """
    from motet.passes.scheduling import inter_operator
    from motet.passes.stage_cost import keys_of, stage_costs

    started, target, graph = time.monotonic(), _target(work), one.units.graph
    costs = stage_costs(one.units, target, merge=work.merge)
    keys = keys_of(one.units, merge=work.merge)
    _price(one.units.units, costs, progress)
    if search.budget_seconds is not None:
        left = search.budget_seconds - (time.monotonic() - started)
        search = replace(search, budget_seconds=max(0.0, left))
    one_by_one = inter_operator.sequential(graph, costs, keys)
    all_at_once = inter_operator.greedy(graph, costs, keys)
    found = {"sequential": one_by_one, "greedy": all_at_once}.get(work.algorithm)
    if found is None:
        told = partial(progress, "operators of distinct blocks")
        found = inter_operator.schedule(graph, costs, keys, search, told)
    titles = titles_of(one.units.units)
    return Plan(
        model=one.model,
        target=work.array.name if work.array else "host",
        resource="pods" if work.array else "threads",
        schedule=found,
        stages=tuple(_stage(stage, costs, titles) for stage in found.stages),
        units=one.units.by_name,
        sequential=one_by_one.seconds,
        greedy=all_at_once.seconds,
        clock_hz=work.array.clock_hz if work.array else 0.0,
    )


def simulated(work: Work, plans: Sequence[Plan], show: Show) -> list[Plan]:
    """``plans`` with what the array's programs take that follow them, simulated.

    Those of which nothing runs on the array stay without a trial.
    """
    import msgspec

    from motet.compiler.compile import CompileOptions
    from motet.compiler.schedule_trial import schedule_trials

    assumed = {one.model: one.assumed for one in work.models}
    names = [plan.model for plan in plans]
    models = tuple(one for one in work.spec.models if one.name in names)
    spec = msgspec.structs.replace(work.spec, models=models)
    with TemporaryDirectory() as folder:
        stages = Path(folder, "stages.json")
        stages.write_bytes(msgspec.json.encode([plan.to_dict() for plan in plans]))
        trials = schedule_trials(spec, stages, assumed, CompileOptions(progress=show))
    return [replace(plan, trial=trials.get(plan.model)) for plan in plans]


def _price(units: Sequence[Unit], costs: StageCosts, progress: Progress) -> None:
    """Ask for each kind of operator once, which takes most of the time that costs take."""
    kinds = {unit.signature: unit.name for unit in units}
    for number, name in enumerate(kinds.values(), 1):
        costs.concurrent(((name,),))
        progress("kinds of operators priced", number, len(kinds))


def titles_of(units: Sequence[Unit]) -> dict[str, str]:
    """What reports call each unit: by its node, with its number where several come from one."""
    times = Counter(unit.title for unit in units)
    return {
        unit.name: unit.title
        if times[unit.title] == 1
        else f"{unit.title} [{unit.name.rpartition('/')[2]}]"
        for unit in units
    }


def _stage(stage: Stage, costs: StageCosts, titles: Mapping[str, str]) -> PlannedStage:
    groups = tuple(tuple(titles[name] for name in group) for group in stage.groups)
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
