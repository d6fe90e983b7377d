"""Inter-operator scheduling of an array's workload, down to the program.

The array's pods are shared out among operators that do not depend on each other. Candidates:

* sequential: the program without an assignment, one step after another, each on as many pods
  as make it fastest.
* greedy: in every stage all operators that are ready.
* ios: the stages with the least estimated time (``inter_operator``, Ding et al., MLSys 2021).
* lean: the same stages, in which no group gets more pods than it needs to end with the others. The
  pods that are left begin what comes next; in the others they shorten what waits for latencies.
* mixed: for every block of the network the stages of the candidate that took the least time there.

Estimates do not know how stages overlap and contend for DRAM and links. So every candidate is
emitted and its program simulated, and the fastest is taken: never one slower than sequential.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from motet.passes.options import ScheduleOptions
from motet.passes.scheduling import inter_operator
from motet.passes.scheduling.array_costs import ArrayStageCost
from motet.passes.scheduling.array_units import units_of
from motet.passes.scheduling.blocks import cut_blocks
from motet.passes.scheduling.graph import OperatorGraph
from motet.passes.scheduling.search import asked_for, cut_short, more_time
from motet.runtime.errors import CompileError
from motet.runtime.schedule import Schedule
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.emit.region import CompiledWorkload, compile_workload
from motet.targets.systolic.formats import FORMATS, Format
from motet.targets.systolic.mappings.assignment import Assignment, Group
from motet.targets.systolic.mappings.file import Constraints
from motet.targets.systolic.simulation.timing import Timing, simulate
from motet.targets.systolic.workload.graph import Workload

Stages = list[tuple[Group, ...]]
Blocks = list[Stages]
"""The stages of every block of a network, block after block."""


@dataclass(frozen=True)
class Candidate:
    """A way to schedule.

    cycles: simulated. block_cycles: from the end of all blocks before a block to its own.
    estimated: cycles by the costs that stages were chosen with.
    """

    name: str
    blocks: Blocks
    cycles: int
    block_cycles: tuple[int, ...]
    estimated: float

    @property
    def assignment(self) -> Assignment:
        """The stages of all blocks."""
        return Assignment(tuple(stage for block in self.blocks for stage in block))


@dataclass(frozen=True)
class Scheduled:
    """The fastest program, and all candidates that were simulated, sequential first.

    equal: names of ways that gave no candidate of their own, and of the candidate that they equal.
    pinned: the candidate that was asked for, whatever others take. warning: for the user.
    """

    compiled: CompiledWorkload
    candidates: tuple[Candidate, ...] = ()
    equal: Mapping[str, str] = field(default_factory=dict)
    pinned: str | None = None
    warning: str = ""

    @property
    def cycles(self) -> dict[str, int]:
        """Simulated cycles by the candidates' names."""
        return {one.name: one.cycles for one in self.candidates}

    @property
    def best(self) -> str:
        """The name of the fastest candidate, or of the pinned one."""
        return self._taken.name if self.candidates else "sequential"

    @property
    def _taken(self) -> Candidate:
        wanted = [one for one in self.candidates if self.pinned in (None, one.name)]
        return min(wanted, key=lambda one: one.cycles)

    @property
    def summary(self) -> str:
        """The winner, its stages, and what each candidate takes; empty where there was one way."""
        if not self.candidates:
            return ""
        best = self._taken
        stages = best.assignment.stages
        widest = max(map(len, stages))
        times = ", ".join(
            f"{one.name} {one.cycles} ({one.estimated:.0f})" for one in self.candidates
        )
        same = "".join(f", {name} as {other}" for name, other in self.equal.items())
        return (
            f"{best.name} in {len(stages)} stages of up to {widest} groups; "
            f"simulated (estimated) cycles: {times}{same}"
        )


def compile_scheduled(
    workload: Workload,
    description: ArrayDescription,
    number_format: str | Format = "fp32",
    constraints: Constraints | None = None,
    options: ScheduleOptions | None = None,
) -> CompiledWorkload:
    """The program of ``workload``, as ``compile_workload`` makes it or a faster one."""
    return schedule_workload(workload, description, number_format, constraints, options).compiled


def schedule_workload(
    workload: Workload,
    description: ArrayDescription,
    number_format: str | Format = "fp32",
    constraints: Constraints | None = None,
    options: ScheduleOptions | None = None,
) -> Scheduled:
    """As ``compile_scheduled``, with the cycles of all candidates.

    No candidate but sequential is made, and none simulated, where ``options`` say so, on an array
    of one pod, for a chain of operators, and where ``constraints`` pin pods.
    """
    options = options or ScheduleOptions()
    made = FORMATS[number_format] if isinstance(number_format, str) else number_format
    first = compile_workload(workload, description, made, constraints)
    units = units_of(workload)
    is_single = description.pod_count == 1 or _is_chain(units.graph) or _pins_pods(constraints)
    if not options.enabled or options.algorithm == "sequential" or is_single:
        return Scheduled(first)
    cost = ArrayStageCost(workload, description, made, units, first.plan, constraints)
    return _Trials(cost, first).run(options)


def _is_chain(graph: OperatorGraph) -> bool:
    """Whether each operator reads the one before it, so that there is only one order."""
    return all(after >> place + 1 & 1 for place, after in enumerate(graph.successors[:-1]))


def _pins_pods(constraints: Constraints | None) -> bool:
    given = constraints or {}
    return any({"first_pod", "pods"} & {*table} for table in given.values())


class _Trials:
    """Makes candidates, simulates them, and keeps the fastest program."""

    def __init__(self, cost: ArrayStageCost, first: CompiledWorkload) -> None:
        self._cost = cost
        self._parts = cut_blocks(cost.units.graph)
        self._best, self._candidates = first, list[Candidate]()
        self._equal: dict[str, str] = {}
        numbers = range(len(cost.workload.steps))
        pods = [mapping.pod_numbers for mapping in first.plan.mappings]
        alone = [(Group((n,), pods[n]),) for n in numbers]
        self._note("sequential", [[alone[n] for n in own] for own in self._steps_of], first)

    def run(self, options: ScheduleOptions) -> Scheduled:
        """The fastest of the candidates that ``options`` ask for."""
        keys = self._cost.keys()
        greedy = [inter_operator.greedy(part, self._cost, keys) for part in self._parts]
        self._try("greedy", [self._stages(schedule) for schedule in greedy])
        cut = ""
        if options.algorithm == "ios":
            graph = self._cost.units.graph
            found = inter_operator.schedule(graph, self._cost, keys, asked_for(options))
            cut = cut_short(found)
            self._try("ios", self._by_block(found))
            self._try("lean", self._by_block(found, lean=True))
        self._try("mixed", self._mixed())
        warning = more_time(cut) if cut else ""
        return Scheduled(self._best, tuple(self._candidates), self._equal, warning=warning)

    @cached_property
    def _steps_of(self) -> list[tuple[int, ...]]:
        """The steps of every block, in order."""
        steps = self._cost.units.steps
        return [
            tuple(sorted(n for name in part.names for n in steps[name])) for part in self._parts
        ]

    def _stages(self, schedule: Schedule, *, lean: bool = False) -> Stages:
        stages = (self._cost.stage(stage.groups, lean=lean) for stage in schedule.stages)
        return [made for made in stages if made]

    def _by_block(self, schedule: Schedule, *, lean: bool = False) -> Blocks:
        """The stages of a schedule of the whole network; one block where it has no others."""
        if len(schedule.blocks) != len(self._parts):
            return [self._stages(schedule, lean=lean)]
        blocks: Blocks = [[] for _ in self._parts]
        for stage in schedule.stages:
            made = self._cost.stage(stage.groups, lean=lean)
            blocks[stage.block] += [made] if made else []
        return blocks

    def _mixed(self) -> Blocks:
        """Of every block the stages of the candidate that took the least time from its start."""
        whole = [one for one in self._candidates if len(one.blocks) == len(self._parts)]
        chosen: Blocks = []
        for block in range(len(self._parts)):
            best = min(whole, key=lambda one: one.block_cycles[block])
            chosen.append(best.blocks[block])
        return chosen

    def _try(self, name: str, blocks: Blocks) -> None:
        """Make and simulate a candidate that no other is equal to; none where it does not fit."""
        for one in self._candidates:
            if blocks == one.blocks:
                self._equal[name] = one.name
                return
        cost = self._cost
        assignment = Assignment(tuple(stage for block in blocks for stage in block))
        try:
            made = compile_workload(
                cost.workload, cost.description, cost.number_format, cost.constraints, assignment
            )
        except CompileError:
            return
        self._note(name, blocks, made)

    def _note(self, name: str, blocks: Blocks, made: CompiledWorkload) -> None:
        """Simulate a candidate; keep its program if it is the fastest so far."""
        timing = simulate(made.program, self._cost.description)
        ends = _step_ends(made, timing)
        last, reached = [], 0
        for own in self._steps_of:
            reached = max([reached, *(ends[n] for n in own)])
            last.append(reached)
        spans = tuple(after - before for before, after in zip([0, *last], last, strict=False))
        if self._candidates and timing.cycles < min(one.cycles for one in self._candidates):
            self._best = made
        estimated = sum(self._cost.stage_cycles(stage) for block in blocks for stage in block)
        self._candidates.append(Candidate(name, blocks, timing.cycles, spans, estimated))


def _step_ends(made: CompiledWorkload, timing: Timing) -> list[int]:
    """The cycle in which the last instruction of every step ends."""
    ends = np.zeros(len(made.program.steps), np.int64)
    np.maximum.at(ends, made.program.instructions["step"], timing.records["end"])
    return [int(end) for end in ends]
