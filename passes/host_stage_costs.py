"""What stages of the host's kernels cost, by formula: for ``host_stages``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tvm import relax

from motet.passes.contiguous import run_offsets
from motet.passes.graph import bindings_of
from motet.passes.names import HOST, TARGET
from motet.passes.scheduling.stage_costs import Groups, OperatorKey
from motet.passes.unit_figures import figures_of_function
from motet.targets.host.machine import Machine
from motet.targets.host.unit_time import FORK_SECONDS, estimate


@dataclass(frozen=True)
class HostCosts:
    """A ``StageCost`` of host kernels.

    alone: seconds on one thread by unit; together: with all ``threads``. whole: units that
    cannot run beside others.
    """

    alone: Mapping[str, float]
    together: Mapping[str, float]
    whole: frozenset[str]
    threads: int

    def concurrent(self, groups: Groups) -> float:
        """One group: its kernels in order, each on all threads. Several: as they are dealt."""
        if len(groups) == 1:
            return sum(self.together[name] for name in groups[0])
        if any(name in self.whole for group in groups for name in group):
            return float("inf")
        loads = [0.0] * self.threads
        for seconds in sorted((sum(map(self.alone.__getitem__, g)) for g in groups), reverse=True):
            loads[loads.index(min(loads))] += seconds
        return max(loads) + FORK_SECONDS

    def merged(self, operators: tuple[str, ...]) -> float | None:
        """Kernels are not merged here."""
        return None

    def keys(self) -> dict[str, OperatorKey]:
        """What costs depend on."""
        return {
            name: OperatorKey((self.alone[name], self.together[name], name in self.whole))
            for name in self.alone
        }

    @property
    def sequential(self) -> float:
        """Seconds of one kernel after another."""
        return sum(self.together.values())

    @property
    def limit(self) -> float:
        """No schedule takes less: all work dealt evenly, and every kernel as fast as it can be."""
        fixed = sum(self.together[name] for name in self.whole)
        return fixed + sum(self.floor(name) for name in self.alone.keys() - self.whole)

    def floor(self, operator: str) -> float:
        """On all threads, or its share of theirs where each runs another group."""
        together = self.together[operator]
        if operator in self.whole:
            return together
        return min(self.alone[operator] / self.threads, together)


def host_costs(
    units: Mapping[str, relax.Function], machine: Machine, threads: int
) -> HostCosts | None:
    """Costs of the units by name; None where a shape is not static."""
    alone, together, whole = dict[str, float](), dict[str, float](), set[str]()
    for name, unit in units.items():
        work = figures_of_function(unit)
        if work is None:
            return None
        if runs_alone(unit):
            whole.add(name)
        alone[name] = estimate(work, machine, 1).seconds
        together[name] = estimate(work, machine, threads).seconds
    return HostCosts(alone, together, frozenset(whole), threads)


def runs_alone(unit: relax.Function) -> bool:
    """Whether the unit is a region of the array, or maybe no kernel (``contiguous``)."""
    values = [binding.value for binding in bindings_of(unit)]
    is_placed = len(values) == 1 and run_offsets(values[0]) is not None
    return bool(unit.attrs[TARGET] != HOST) or is_placed
