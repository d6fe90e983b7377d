"""What units cost, alone and side by side, before anything is compiled.

``estimate`` is of one unit. On an array its seconds with p pods are those of its workloads' best
mappings by their closed forms, one workload after another, all it reads in DRAM; on the host
they follow from multiply-accumulates and bytes (``targets.host.unit_time``).

A stage of groups on an array shares the pods out so that they finish together
(``scheduling.pod_shares``), and takes no less than DRAM for what all its units read and write. On
the host every group of several runs on a thread. What a compilation schedules knows more (which
values stay on chip, how programs contend) and simulates: these are the costs of a plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import fsum, inf

import msgspec

from motet.passes.scheduling.pod_shares import (
    Shares,
    counts_of,
    dealt,
    shared_by_count,
    shared_by_place,
)
from motet.passes.scheduling.stage_costs import Groups, OperatorKey
from motet.passes.unit_figures import figures_of
from motet.passes.unit_workloads import UnitWork, work_of_unit, written_into_place
from motet.passes.units import Unit, Units
from motet.runtime.errors import CompileError
from motet.targets.cost import Cost
from motet.targets.host import unit_time
from motet.targets.host.machine import Machine
from motet.targets.systolic import estimate as array_estimate
from motet.targets.systolic.architecture import ArrayDescription


@dataclass(frozen=True)
class HostTarget:
    """A CPU, and the threads that it gives a model."""

    machine: Machine
    threads: int


@dataclass(frozen=True)
class ArrayTarget:
    """An array and its number format; ``host`` runs what the array does not take."""

    description: ArrayDescription
    number_format: str
    host: HostTarget


Target = HostTarget | ArrayTarget


@dataclass(frozen=True)
class Resources:
    """What a unit may use: the first pods of the array, threads of the host; None: all."""

    pods: int | None = None
    threads: int | None = None


def estimate(unit: Unit, target: Target, resources: Resources | None = None) -> Cost:
    """The cost of one run of ``unit`` alone.

    Raises ``CompileError`` where sizes are open, or a workload does not fit the array.
    """
    given = resources or Resources()
    if isinstance(target, HostTarget):
        return Cost(_host_seconds(unit, target, given.threads), "formula")
    work = work_of_unit(unit, target.description, target.number_format)
    return Cost(_array_seconds(unit, work, target, given.pods), "formula")


def _host_seconds(unit: Unit, target: HostTarget, threads: int | None) -> float:
    bindings = written_into_place(unit.bindings)
    if not bindings:
        return 0.0
    work = figures_of(bindings, f"operator {unit.title!r}")
    return unit_time.estimate(work, target.machine, threads or target.threads).seconds


def _array_seconds(unit: Unit, work: UnitWork, target: ArrayTarget, pods: int | None) -> float:
    on_array = [
        array_estimate.estimate(one, target.description, target.number_format, pods).seconds
        for one in work.workloads
    ]
    host = target.host
    on_host = [
        unit_time.estimate(
            figures_of([left], f"operator {unit.title!r}"), host.machine, host.threads
        ).seconds
        for left in work.on_host
    ]
    return fsum((*on_array, *on_host))


class HostStageCost:
    """Seconds of stages on the host (``scheduling.stage_costs.StageCost``)."""

    def __init__(self, units: Units, target: HostTarget) -> None:
        self._units = units.by_name
        self._target = target
        self._known: dict[tuple[str, int], float] = {}

    def concurrent(self, groups: Groups) -> float:
        """One group takes all threads; of several each takes one, dealt longest first."""
        if len(groups) == 1:
            return self._group(groups[0], self._target.threads)
        alone = [self._group(group, 1) for group in groups]
        turns = dealt(alone, self._target.threads, float)
        return max(fsum(alone[n] for n in turn) for turn in turns) + unit_time.FORK_SECONDS

    def merged(self, operators: tuple[str, ...]) -> float | None:
        """None: units are not merged."""
        del operators
        return None

    def shares(self, groups: Groups) -> tuple[int, ...]:
        """Threads of every group."""
        return (self._target.threads,) if len(groups) == 1 else (1,) * len(groups)

    def _group(self, names: tuple[str, ...], threads: int) -> float:
        return fsum(self._unit(self._units[name], threads) for name in names)

    def _unit(self, unit: Unit, threads: int) -> float:
        key = unit.signature, threads
        if key not in self._known:
            self._known[key] = _host_seconds(unit, self._target, threads)
        return self._known[key]


CUTS = 16
"""Most parts that pods of several kinds are cut into."""


@dataclass(frozen=True)
class _OnArray:
    """A unit on the array: its work, the bytes that it moves, and seconds by the pods it has."""

    unit: Unit
    work: UnitWork
    bytes: int
    seconds: dict[range, float] = field(default_factory=dict)


class ArrayStageCost:
    """Seconds of stages on an array (``scheduling.stage_costs.StageCost``)."""

    def __init__(self, units: Units, target: ArrayTarget) -> None:
        self._units = units.by_name
        self._target = target
        self._known: dict[str, _OnArray] = {}
        self._known_times: dict[tuple[str, ...], tuple[float, ...]] = {}
        self._pods = target.description.pod_count
        self._counts = counts_of(self._pods)

    def concurrent(self, groups: Groups) -> float:
        """The groups side by side, and no less than DRAM needs for what all of them move."""
        moved = sum(self._of(name).bytes for group in groups for name in group)
        bound = moved / self._target.description.dram.bytes_per_second
        return max(bound, max(self._group(run, pods) for run, pods in self._placed(groups)))

    def merged(self, operators: tuple[str, ...]) -> float | None:
        """None: units are not merged."""
        del operators
        return None

    def shares(self, groups: Groups) -> tuple[int, ...]:
        """Pods of every group."""
        pods = {name: len(share) for run, share in self._placed(groups) for name in run}
        return tuple(pods[group[0]] for group in groups)

    def _placed(self, groups: Groups) -> list[tuple[tuple[str, ...], range]]:
        """The groups, longest first, those joined that wait for each other, and their pods."""
        runs = sorted(groups, key=lambda run: -self._times(run)[-1])
        parts = len(self._cuts) - 1
        if len(runs) > parts:
            turns = dealt(runs, parts, lambda run: self._group(run, range(1)))
            runs = [tuple(name for n in turn for name in runs[n]) for turn in turns]
        return list(zip(runs, self._shares(runs).pods, strict=True))

    def _shares(self, runs: Sequence[tuple[str, ...]]) -> Shares:
        if len(self._target.description.pods) > 1:
            return shared_by_place(runs, self._cuts, self._group)
        return shared_by_count([self._times(run) for run in runs], self._counts)

    def _times(self, names: tuple[str, ...]) -> tuple[float, ...]:
        """Seconds of a group with each of ``_counts`` pods; they never rise."""
        key = tuple(self._units[name].signature for name in names)
        if key not in self._known_times:
            made = tuple(self._group(names, range(count)) for count in self._counts)
            self._known_times[key] = made
        return self._known_times[key]

    @cached_property
    def _cuts(self) -> tuple[int, ...]:
        """Between which pods a group may end and the next begin."""
        description = self._target.description
        if len(description.pods) == 1:
            return tuple(range(self._pods + 1))
        kinds = {description.first_of(kind) for kind in range(len(description.pods))}
        return tuple(sorted(kinds | {round(self._pods * i / CUTS) for i in range(CUTS + 1)}))

    def _group(self, names: tuple[str, ...], pods: range) -> float:
        return fsum(self._seconds(self._of(name), pods) for name in names)

    def _of(self, name: str) -> _OnArray:
        unit, target = self._units[name], self._target
        if unit.signature not in self._known:
            work = work_of_unit(unit, target.description, target.number_format)
            moved = work.dram_bytes(target.number_format)
            self._known[unit.signature] = _OnArray(unit, work, moved)
        return self._known[unit.signature]

    def _seconds(self, one: _OnArray, pods: range) -> float:
        """Never more with more pods of one kind; inf where they are not enough."""
        if pods not in one.seconds:
            one.seconds[pods] = self._estimated(one, pods)
            if len(self._target.description.pods) == 1 and len(pods) in self._counts[1:]:
                fewer = range(self._counts[self._counts.index(len(pods)) - 1])
                one.seconds[pods] = min(one.seconds[pods], self._seconds(one, fewer))
        return one.seconds[pods]

    def _estimated(self, one: _OnArray, pods: range) -> float:
        target = replace(self._target, description=only(self._target.description, pods))
        try:
            return _array_seconds(one.unit, one.work, target, None)
        except CompileError:
            if len(pods) == self._pods:
                raise
            return inf


def only(description: ArrayDescription, pods: range) -> ArrayDescription:
    """``description`` with these of its pods; memory and links stay what they are."""
    kept, first = [], 0
    for pod in description.pods:
        count = min(first + pod.count, pods.stop) - max(first, pods.start)
        if count > 0:
            kept.append(msgspec.structs.replace(pod, count=count))
        first += pod.count
    return msgspec.structs.replace(description, pods=tuple(kept))


StageCosts = HostStageCost | ArrayStageCost


def stage_costs(units: Units, target: Target) -> StageCosts:
    """What stages of ``units`` cost on ``target``."""
    if isinstance(target, HostTarget):
        return HostStageCost(units, target)
    return ArrayStageCost(units, target)


def keys_of(units: Units) -> Mapping[str, OperatorKey]:
    """What the costs of units depend on."""
    return {unit.name: OperatorKey(unit.signature) for unit in units.units}
