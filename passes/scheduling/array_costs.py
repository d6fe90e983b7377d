"""What stages cost on an array: the mappings' estimates, with pods shared out among the groups.

Steps of a group run one after another, groups of a stage side by side on pods of their own. A stage
takes as long as its longest group, and no less than DRAM takes for the bytes of all of them,
which they share. Steps are estimated with the tensors on chip that a given plan keeps
there. Costs are kept by what they depend on: equal steps are asked once.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from motet.passes.scheduling.array_units import ArrayUnits
from motet.passes.scheduling.pod_sharing import PodSharing
from motet.passes.scheduling.stage_costs import Groups, OperatorKey
from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.emit.dispatch import step_mapping
from motet.targets.systolic.formats import Format
from motet.targets.systolic.mappings.assignment import Group
from motet.targets.systolic.mappings.file import Constraints
from motet.targets.systolic.mappings.mapping import Place
from motet.targets.systolic.mappings.plan import Plan
from motet.targets.systolic.mappings.vector_cost import moved_bytes
from motet.targets.systolic.workload.graph import Step, Workload

Steps = tuple[int, ...]
"""Numbers of a workload's steps: what a group runs."""


@dataclass
class ArrayStageCost:
    """The ``FlooredStageCost`` of an array.

    plan: of the whole workload, for what it keeps on chip; numbers of tensors are the workload's.
    """

    workload: Workload
    description: ArrayDescription
    number_format: Format
    units: ArrayUnits
    plan: Plan
    constraints: Constraints | None = None
    _cycles: dict[tuple[Hashable, range], float] = field(default_factory=dict)
    _groups: dict[tuple[Steps, range], float] = field(default_factory=dict)
    _known_times: dict[Steps, tuple[float, ...]] = field(default_factory=dict)

    def concurrent(self, groups: Groups) -> float:
        """Seconds of groups of units side by side."""
        runs = self._runs(groups)
        if not runs:
            return 0.0
        shares = zip(runs, self.sharing.least(runs).pods, strict=True)
        return self.description.seconds(self.stage_cycles([Group(*one) for one in shares]))

    def merged(self, operators: tuple[str, ...]) -> float | None:
        """None: the array runs convolutions side by side, and merges none."""
        del operators
        return None

    def floor(self, operator: str) -> float:
        """Seconds of its bytes from DRAM or of its least share of all pods' time: whichever binds
        the whole workload more, so that no stage takes less than the sum over its operators.
        """
        cycles = self._in_dram if self._is_bound_by_dram else self._in_pods
        return self.description.seconds(sum(map(cycles, self.units.steps[operator])))

    @cached_property
    def sharing(self) -> PodSharing[int]:
        """How runs of steps share the pods, in cycles."""
        return PodSharing(self.description, self._group, self._times)

    def _runs(self, groups: Groups) -> list[Steps]:
        """The groups with steps, longest first, no more than parts of the pods."""
        steps = [tuple(n for name in group for n in self.units.steps[name]) for group in groups]
        return self.sharing.runs([run for run in steps if run])

    @cached_property
    def _is_bound_by_dram(self) -> bool:
        every = range(len(self.workload.steps))
        return sum(map(self._in_dram, every)) > sum(map(self._in_pods, every))

    def _in_pods(self, number: int) -> float:
        return self.sharing.least_of_all((number,))

    def _in_dram(self, number: int) -> float:
        return self._bytes[number] / self.description.dram_bytes_per_cycle

    def stage(self, groups: Groups, *, lean: bool = False) -> tuple[Group, ...]:
        """The groups of a stage with the pods that they get; ``lean``: no more than they need."""
        runs = self._runs(groups)
        if not runs:
            return ()
        shares = self.sharing.least(runs) if lean else self.sharing.handed_out(runs)
        return tuple(map(Group, runs, shares.pods))

    def stage_cycles(self, stage: Sequence[Group]) -> float:
        """Estimated cycles of groups of steps on the pods that they have."""
        moved = sum(self._bytes[n] for group in stage for n in group.steps)
        longest = max(self._group(group.steps, group.pods) for group in stage)
        return max(longest, moved / self.description.dram_bytes_per_cycle)

    def keys(self) -> dict[str, OperatorKey]:
        """What the costs of the units depend on."""
        return {
            name: OperatorKey(tuple(self._signatures[n] for n in steps))
            for name, steps in self.units.steps.items()
        }

    def _times(self, steps: Steps) -> tuple[float, ...]:
        """Cycles of steps on each number of ``_counts``, which never rise."""
        if steps not in self._known_times:
            made = tuple(self._group(steps, range(count)) for count in self.sharing.counts)
            self._known_times[steps] = made
        return self._known_times[steps]

    def _group(self, steps: Steps, pods: range) -> float:
        """Cycles of steps one after another on ``pods``."""
        key = steps, pods
        if key not in self._groups:
            self._groups[key] = math.fsum(self._step(n, pods) for n in steps)
        return self._groups[key]

    def _step(self, number: int, pods: range) -> float:
        """Cycles of a step; never more with more pods of one kind."""
        key = self._signatures[number], pods
        if key not in self._cycles:
            self._cycles[key] = self._estimate(number, pods)
            if self.sharing.is_uniform and len(pods) > 1:
                fewer = max(count for count in self.sharing.counts if count < len(pods))
                self._cycles[key] = min(self._cycles[key], self._step(number, range(fewer)))
        return self._cycles[key]

    def _estimate(self, number: int, pods: range) -> float:
        """Cycles by the best mapping; infinite where nothing fits."""
        try:
            return step_mapping(
                self.workload.steps[number],
                self.workload,
                self.description,
                self.number_format,
                self._on_chip,
                scratchpad_words=self.plan.tile_words,
                constraints=self.constraints,
                pods=pods,
            ).cycles
        except CompileError:
            return math.inf

    @cached_property
    def _bytes(self) -> list[int]:
        """Between the chip and DRAM, of every step."""
        asked = self.workload, self.number_format, self._on_chip
        return [moved_bytes(step, *asked) for step in self.workload.steps]

    @cached_property
    def _on_chip(self) -> dict[int, Place]:
        everywhere = range(self.description.pod_count)
        return {n: Place(home.address, everywhere) for n, home in self.plan.resident.items()}

    @cached_property
    def _signatures(self) -> list[int]:
        """Equal numbers for steps that take the same time."""
        known: dict[Hashable, int] = {}
        return [known.setdefault(self._signature(s), len(known)) for s in self.workload.steps]

    def _signature(self, step: Step) -> Hashable:
        epilogue = step.epilogue
        given = (epilogue.bias, epilogue.residual, epilogue.requantise)
        tensors = [
            (
                self.workload.tensors[n].elements,
                self.workload.tensors[n].element,
                n in self._on_chip,
            )
            for n in (*step.reads, step.output)
        ]
        flags = tuple(one is not None for one in given)
        pinned = step.name if self.constraints else ""
        return step.layer, flags, epilogue.activation, tuple(tensors), pinned
