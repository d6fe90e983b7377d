"""What stages of units cost on an array, before anything is compiled.

The pods are shared out among the groups of a stage so that they finish together
(``scheduling.pod_shares``). Where all pods are of one kind, a unit's seconds with every number
of them come from one search (``mappings.by_pods``), once for equal units; they never rise.

What the host computes of a model, it computes before or after what the array does: an array
program is one call of a run. So a stage takes as long as its work on the array, and then as its
work on the host, where several groups run on a thread each.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from math import fsum, inf

import msgspec

from motet.passes.merged_units import merge_keys, merged_unit
from motet.passes.scheduling.pod_shares import dealt
from motet.passes.scheduling.pod_sharing import PodSharing
from motet.passes.scheduling.stage_costs import Groups
from motet.passes.unit_cost import ArrayTarget, left_to_host, pods_seconds
from motet.passes.unit_workloads import UnitWork, work_of_unit
from motet.passes.units import Unit, Units
from motet.runtime.errors import CompileError
from motet.targets.host.unit_time import FORK_SECONDS
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.formats import FORMATS
from motet.targets.systolic.mappings.by_pods import workload_cycles


@dataclass
class _OnArray:
    """A unit on the array, and those like it: its work and the bytes that it moves.

    curve: seconds with each of ``counts_of`` pods. seconds: with some of pods of several kinds.
    on_host: seconds of what the array leaves to the host, on one thread and on all.
    """

    unit: Unit
    work: UnitWork
    bytes: int
    on_host: tuple[float, float]
    curve: tuple[float, ...] | None = None
    seconds: dict[range, float] = field(default_factory=dict)


class ArrayStageCost:
    """Seconds of stages on an array (``scheduling.stage_costs.StageCost``)."""

    def __init__(self, units: Units, target: ArrayTarget, merge: bool = False) -> None:
        self._units = units.by_name
        self._mergeable = merge_keys(units) if merge else {}
        self._target = target
        self._known: dict[str, _OnArray] = {}
        self._by_name: dict[str, _OnArray] = {}
        self._known_times: dict[tuple[str, ...], tuple[float, ...]] = {}
        self._pods = target.description.pod_count
        self._sharing = PodSharing(target.description, self._group, self._times)

    def concurrent(self, groups: Groups) -> float:
        """The groups side by side, and no less than DRAM needs for what all of them move; then
        what the host does of them.
        """
        moved = sum(self._of(name).bytes for group in groups for name in group)
        bound = moved / self._target.description.dram.bytes_per_second
        on_host = self._on_host(groups)
        runs = self._sharing.runs([group for group in groups if self._is_on_array(group)])
        if not runs:
            return on_host
        placed = zip(runs, self._sharing.least(runs).pods, strict=True)
        return max(bound, max(self._group(run, pods) for run, pods in placed)) + on_host

    def _is_on_array(self, group: tuple[str, ...]) -> bool:
        return any(self._of(name).work.is_on_array for name in group)

    def _on_host(self, groups: Groups) -> float:
        """What the host does of groups: of one with all threads, of several each on a thread."""
        each = [[self._of(name).on_host for name in group] for group in groups]
        times = [[*map(fsum, zip(*group, strict=True))] for group in each]
        alone = [one for one, _ in times if one]
        if len(alone) < 2:
            return fsum(whole for _, whole in times)
        turns = dealt(alone, self._target.host.threads, float)
        return max(fsum(alone[n] for n in turn) for turn in turns) + FORK_SECONDS

    def shares(self, groups: Groups) -> tuple[int | None, ...]:
        """Pods of every group, None where the host computes it; pods of one kind that none needs
        are handed out too.
        """
        runs = self._sharing.runs([group for group in groups if self._is_on_array(group)])
        if not runs:
            return (None,) * len(groups)
        shares = zip(runs, self._sharing.handed_out(runs).pods, strict=True)
        pods = {name: len(share) for run, share in shares for name in run}
        return tuple(pods.get(group[0]) for group in groups)

    def merged(self, operators: tuple[str, ...]) -> float | None:
        """The merged convolution on all pods, and no less than DRAM needs for what it moves."""
        found = self._looked_up(merged_unit([self._units[name] for name in operators]))
        everything = range(self._pods)
        alone = (
            self._curve(found)[-1] if self._sharing.is_uniform else self._seconds(found, everything)
        )
        bound = found.bytes / self._target.description.dram.bytes_per_second
        return max(alone, bound) + found.on_host[1]

    def floor(self, operator: str) -> float:
        """Its bytes from DRAM or its least share of all pods' time: what binds the network more.

        No stage takes less than the sum over its operators of either, nor of what it is made of;
        the host's part comes on top.
        Of operators that may be merged nothing is known: merged, they read once what all read.
        """
        if operator in self._mergeable:
            return 0.0
        on_array = (self._in_dram if self._is_bound_by_dram else self._in_pods)(operator)
        alone, together = self._of(operator).on_host
        return on_array + min(alone / self._target.host.threads, together)

    @cached_property
    def _is_bound_by_dram(self) -> bool:
        return fsum(map(self._in_dram, self._units)) > fsum(map(self._in_pods, self._units))

    def _in_pods(self, operator: str) -> float:
        return self._sharing.least_of_all((operator,))

    def _in_dram(self, operator: str) -> float:
        return self._of(operator).bytes / self._target.description.dram.bytes_per_second

    def _group(self, names: tuple[str, ...], pods: range) -> float:
        if self._sharing.is_uniform:
            return self._times(names)[self._places[len(pods)]]
        return fsum(self._seconds(self._of(name), pods) for name in names)

    @cached_property
    def _places(self) -> dict[int, int]:
        return {count: place for place, count in enumerate(self._sharing.counts)}

    def _times(self, names: tuple[str, ...]) -> tuple[float, ...]:
        """Seconds of a group with each of ``_counts`` pods, of one kind; they never rise."""
        found = self._known_times.get(names)
        if found is None:
            if len(names) == 1:
                found = self._curve(self._of(names[0]))
            else:
                each = [self._times((name,)) for name in names]
                found = tuple(map(fsum, zip(*each, strict=True)))
            self._known_times[names] = found
        return found

    def _curve(self, one: _OnArray) -> tuple[float, ...]:
        if one.curve is None:
            one.curve = self._searched(one)
        return one.curve

    def _searched(self, one: _OnArray) -> tuple[float, ...]:
        """Raises ``CompileError`` where a unit does not fit all pods."""
        description = self._target.description
        made = FORMATS[self._target.number_format]
        cycles = [
            workload_cycles(w, description, made, self._sharing.counts) for w in one.work.workloads
        ]
        total = [sum(each) for each in zip(*cycles, strict=True)] or [0.0] * len(
            self._sharing.counts
        )
        if total[-1] == inf:
            pods_seconds(one.work, self._target)
        return tuple(description.seconds(float(each)) for each in total)

    def _of(self, name: str) -> _OnArray:
        found = self._by_name.get(name)
        if found is None:
            found = self._by_name[name] = self._looked_up(self._units[name])
        return found

    def _looked_up(self, unit: Unit) -> _OnArray:
        found = self._known.get(unit.signature)
        if found is None:
            target = self._target
            work = work_of_unit(unit, target.description, target.number_format)
            host = tuple(left_to_host(unit, work, target.host, n) for n in (1, None))
            found = _OnArray(unit, work, work.dram_bytes(target.number_format), (host[0], host[1]))
            self._known[unit.signature] = found
        return found

    def _seconds(self, one: _OnArray, pods: range) -> float:
        """On pods of several kinds; inf where they are not enough."""
        if pods not in one.seconds:
            target = replace(self._target, description=only(self._target.description, pods))
            try:
                one.seconds[pods] = pods_seconds(one.work, target)
            except CompileError:
                if len(pods) == self._pods:
                    raise
                one.seconds[pods] = inf
        return one.seconds[pods]


def only(description: ArrayDescription, pods: range) -> ArrayDescription:
    """``description`` with these of its pods; memory and links stay what they are."""
    kept, first = [], 0
    for pod in description.pods:
        count = min(first + pod.count, pods.stop) - max(first, pods.start)
        if count > 0:
            kept.append(msgspec.structs.replace(pod, count=count))
        first += pod.count
    return msgspec.structs.replace(description, pods=tuple(kept))
