"""What stages of units cost, before anything is compiled: the costs of a plan.

A stage of groups on an array shares the pods out (``array_stage_cost``), and takes no less than
DRAM for what all its units read and write. On the host every group of several runs on a thread.
What a compilation schedules knows more (which values stay on chip, how programs contend) and
simulates.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum
from typing import TYPE_CHECKING

from motet.passes.merged_units import merge_keys, merged_unit
from motet.passes.scheduling.pod_shares import dealt
from motet.passes.scheduling.stage_costs import Groups, OperatorKey
from motet.passes.unit_cost import HostTarget, Target, host_seconds
from motet.passes.units import Unit, Units
from motet.targets.host import unit_time

if TYPE_CHECKING:
    from motet.passes.array_stage_cost import ArrayStageCost


class HostStageCost:
    """Seconds of stages on the host (``scheduling.stage_costs.FlooredStageCost``)."""

    def __init__(self, units: Units, target: HostTarget, merge: bool = False) -> None:
        self._units = units.by_name
        self._target = target
        self._known: dict[tuple[str, int], float] = {}
        self._mergeable = merge_keys(units) if merge else {}

    def concurrent(self, groups: Groups) -> float:
        """One group takes all threads; of several each takes one, dealt longest first."""
        if len(groups) == 1:
            return self._group(groups[0], self._target.threads)
        alone = [self._group(group, 1) for group in groups]
        turns = dealt(alone, self._target.threads, float)
        return max(fsum(alone[n] for n in turn) for turn in turns) + unit_time.FORK_SECONDS

    def merged(self, operators: tuple[str, ...]) -> float | None:
        """The merged convolution on all threads."""
        one = merged_unit([self._units[name] for name in operators])
        return self._unit(one, self._target.threads)

    def floor(self, operator: str) -> float:
        """On all threads, or its share of theirs where each runs another group.

        Of one that may be merged nothing is known: what several read is then read once.
        """
        unit, threads = self._units[operator], self._target.threads
        if operator in self._mergeable:
            return 0.0
        return min(self._unit(unit, 1) / threads, self._unit(unit, threads))

    def shares(self, groups: Groups) -> tuple[int, ...]:
        """Threads of every group."""
        return (self._target.threads,) if len(groups) == 1 else (1,) * len(groups)

    def _group(self, names: tuple[str, ...], threads: int) -> float:
        return fsum(self._unit(self._units[name], threads) for name in names)

    def _unit(self, unit: Unit, threads: int) -> float:
        key = unit.signature, threads
        if key not in self._known:
            self._known[key] = host_seconds(unit, self._target, threads)
        return self._known[key]


if TYPE_CHECKING:
    StageCosts = HostStageCost | ArrayStageCost


def stage_costs(units: Units, target: Target, *, merge: bool = False) -> StageCosts:
    """What stages of ``units`` cost on ``target``; merge: whether some may be merged."""
    if isinstance(target, HostTarget):
        return HostStageCost(units, target, merge)
    # The array's mappings need numba, which the host does without.
    from motet.passes.array_stage_cost import ArrayStageCost

    return ArrayStageCost(units, target, merge)


def keys_of(units: Units, *, merge: bool = False) -> Mapping[str, OperatorKey]:
    """What the costs of units depend on; merge: and which may be merged."""
    keys = merge_keys(units) if merge else {}
    return {unit.name: OperatorKey(unit.signature, keys.get(unit.name)) for unit in units.units}
