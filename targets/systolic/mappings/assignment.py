"""An assignment: in which order the steps of a workload are emitted, and on which pods each runs.

Plain data, made by whoever schedules and followed by planning and emission. A *stage* is a set
of *groups* that do not depend on each other and have pods of their own; the steps of a group
run one after another on its pods. Nothing waits for the end of a stage: a program keeps the order
that data asks for, so that a group whose operands are there begins while others still run.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.workload.graph import Workload


@dataclass(frozen=True)
class Group:
    """steps: numbers of a workload's steps, in order. pods: those that they may use."""

    steps: tuple[int, ...]
    pods: range


@dataclass(frozen=True)
class Timetable:
    """Of every step: the stage that it is in, and the pods that it may use."""

    stages: tuple[int, ...]
    pods: tuple[range, ...]


@dataclass(frozen=True)
class Assignment:
    """stages: groups of every stage; each step is in one group."""

    stages: tuple[tuple[Group, ...], ...]

    @property
    def order(self) -> tuple[int, ...]:
        """Numbers of the steps in the order in which they are emitted."""
        return tuple(n for stage in self.stages for group in stage for n in group.steps)

    @property
    def timetable(self) -> Timetable:
        """Stages and pods of the steps, in the order of ``order``."""
        placed = [
            (number, group.pods)
            for number, stage in enumerate(self.stages)
            for group in stage
            for _ in group.steps
        ]
        return Timetable(tuple(stage for stage, _ in placed), tuple(pods for _, pods in placed))

    def ordered(self, workload: Workload, description: ArrayDescription) -> Workload:
        """``workload`` with its steps in ``order``.

        Raises ``CompileError`` where a step is missing, doubled or before what it reads, and where
        pods are none of the array's or shared by two groups of a stage.
        """
        count = len(workload.steps)
        times = Counter(self.order)
        wrong = [n for n in range(count) if times[n] != 1] + [n for n in times if n >= count]
        if wrong:
            raise CompileError(
                f"assignment: step {wrong[0]} of {count} is in {times[wrong[0]]} groups: a step is "
                "in one"
            )
        for number, stage in enumerate(self.stages):
            _check_pods(number, stage, description)
        return replace(workload, steps=tuple(workload.steps[n] for n in self.order))


def sequential(workload: Workload, description: ArrayDescription) -> Assignment:
    """One step after another, each on all pods."""
    pods = range(description.pod_count)
    return Assignment(tuple((Group((n,), pods),) for n in range(len(workload.steps))))


def _check_pods(number: int, stage: tuple[Group, ...], description: ArrayDescription) -> None:
    last = 0
    for pods in sorted((group.pods for group in stage), key=lambda pods: pods.start):
        if not pods or pods.step != 1 or pods.start < last or pods.stop > description.pod_count:
            raise CompileError(
                f"assignment: a group of stage {number} has pods {pods.start} to {pods.stop - 1} "
                f"of array {description.name!r}, which has {description.pod_count}: groups of a "
                "stage have neighbouring pods, and none in common"
            )
        last = pods.stop
