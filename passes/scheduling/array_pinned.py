"""An array's workload in the stages that a user pinned: one assignment, nothing is searched."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from motet.passes.scheduling.array_costs import ArrayStageCost
from motet.passes.scheduling.array_stages import Candidate, Scheduled
from motet.passes.scheduling.array_units import units_of
from motet.passes.scheduling.pins import PinnedWorkload, Place
from motet.passes.scheduling.placed_stages import PlacedGroup, in_order, placed_stages
from motet.runtime.errors import SpecError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.emit.region import CompiledWorkload, compile_workload
from motet.targets.systolic.formats import FORMATS
from motet.targets.systolic.mappings.assignment import Assignment, Group, sequential
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.dependencies import makers
from motet.targets.systolic.workload.graph import Workload

PINNED = "pinned"


def schedule_pinned(
    workload: Workload, description: ArrayDescription, number_format: str, pinned: PinnedWorkload
) -> Scheduled:
    """The program of these stages, beside sequential, to tell what they gain.

    Raises ``SpecError`` where a stage pins more pods than there are.
    """
    first, cost = _first(workload, description, number_format)
    stages = _Pinned(cost, pinned).stages()
    program = compile_workload(
        workload, description, cost.number_format, assignment=Assignment(tuple(stages))
    )
    alone, asked = _alone(first, cost), _candidate(PINNED, stages, program, cost)
    return Scheduled(program, (alone, asked), pinned=PINNED, warning=_slower(alone, asked))


def _slower(alone: Candidate, asked: Candidate) -> str:
    """What the user should know of stages that do not pay."""
    if asked.cycles <= alone.cycles:
        return ""
    return (
        f"the stages of passes.schedule.file take {asked.cycles} cycles, one operator after "
        f"another {alone.cycles}: passes.schedule.enabled without the key is never slower"
    )


def simulated_sequential(
    workload: Workload, description: ArrayDescription, number_format: str
) -> Candidate:
    """One step after another, simulated."""
    return _alone(*_first(workload, description, number_format))


def _first(
    workload: Workload, description: ArrayDescription, number_format: str
) -> tuple[CompiledWorkload, ArrayStageCost]:
    """The program of one step after another, and what stages cost with what that keeps on chip."""
    made = FORMATS[number_format]
    first = compile_workload(workload, description, made)
    return first, ArrayStageCost(workload, description, made, units_of(workload), first.plan)


def _alone(first: CompiledWorkload, cost: ArrayStageCost) -> Candidate:
    alone = sequential(cost.workload, cost.description).stages
    return _candidate("sequential", list(alone), first, cost)


def _candidate(
    name: str, stages: list[tuple[Group, ...]], made: CompiledWorkload, cost: ArrayStageCost
) -> Candidate:
    cycles = simulate(made.program, cost.description).cycles
    return Candidate(name, [stages], cycles, (cycles,), sum(map(cost.stage_cycles, stages)))


class _Pinned:
    """Shares the pods out among the groups of every stage."""

    def __init__(self, cost: ArrayStageCost, pinned: PinnedWorkload) -> None:
        self._cost, self._wanted = cost, pinned
        self._needs = [frozenset[int]().union(*one.values()) for one in makers(cost.workload)]

    def stages(self) -> list[tuple[Group, ...]]:
        placed = placed_stages(self._needs, self._wanted.places, may_wait=True)
        return [self._stage(groups) for groups in placed]

    def _stage(self, groups: Sequence[PlacedGroup]) -> tuple[Group, ...]:
        counts = self._counts(groups)
        if counts is not None:
            runs = [group.steps for group in groups]
            ends = [*accumulate(counts, initial=0)]
            pods = tuple(range(*ends[at : at + 2]) for at in range(len(runs)))
        else:
            dealt = self._cost.sharing.dealt([group.steps for group in groups])
            ordered = in_order([sorted(run) for run in dealt], self._needs)
            runs = [tuple(run) for run in ordered]
            pods = self._cost.sharing.handed_out(runs).pods
        return tuple(Group(steps, own) for steps, own in zip(runs, pods, strict=True))

    def _counts(self, groups: Sequence[PlacedGroup]) -> list[int] | None:
        """Pinned pods; None where some are not, or groups of another stage came along."""
        found = [[self._pods(place) for place in group.places] for group in groups]
        if any(None in counts for counts in found):
            return None
        counts = [sum(filter(None, each)) for each in found]
        there = self._cost.description.pod_count
        stages = {place.stage for group in groups for place in group.places}
        if sum(counts) <= there:
            return counts
        if len(stages) > 1 or len(groups) > there:
            return None
        (stage,) = stages
        raise SpecError(
            f"passes.schedule.file: stage {stage} pins {sum(counts)} pods, array "
            f"{self._cost.description.name!r} has {there}: leave pods out to have them shared out"
        )

    def _pods(self, place: Place) -> int | None:
        """None where they are to be shared out: also for what was not expected on the array."""
        pods = self._wanted.stages[place.stage].pods
        return None if pods is None else pods[place.group]
