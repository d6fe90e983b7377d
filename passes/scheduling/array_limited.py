"""A workload on the first pods of an array, where its model may have no more."""

from __future__ import annotations

from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.emit.region import CompiledWorkload, compile_workload
from motet.targets.systolic.formats import Format
from motet.targets.systolic.mappings.assignment import Assignment, Group
from motet.targets.systolic.workload.graph import Workload


def compile_limited(
    workload: Workload, description: ArrayDescription, number_format: str | Format, pods: int
) -> CompiledWorkload:
    """The program of ``workload``, one step after another, each on pods from 0 to ``pods`` - 1."""
    own = range(min(pods, description.pod_count))
    steps = tuple((Group((number,), own),) for number in range(len(workload.steps)))
    return compile_workload(workload, description, number_format, assignment=Assignment(steps))
