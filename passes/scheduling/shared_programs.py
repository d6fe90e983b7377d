"""Programs for some of an array's pods, and programs of two regions together.

What ``pod_times`` times and what a bundle with a timetable stores is made here, so that a bundle's
programs take the cycles that its timetable counts on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from motet.passes.options import ScheduleOptions
from motet.passes.scheduling.array_stages import schedule_workload
from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.formats import Format
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.mappings.assignment import Assignment, Group
from motet.targets.systolic.simulation.timing import Timing, simulate
from motet.targets.systolic.slices import sliced
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.parts import Part


def pod_program(
    workload: Workload, description: ArrayDescription, number_format: str | Format, pods: range
) -> SystolicProgram:
    """A region, one step after another, on ``pods`` and with the bandwidth that comes with them.

    Raises ``CompileError`` where it does not fit their memories.
    """
    steps = tuple((Group((number,), pods),) for number in range(len(workload.steps)))
    slice_ = sliced(description, len(pods))
    return compile_workload(workload, slice_, number_format, None, Assignment(steps)).program


@dataclass(frozen=True)
class JointProgram:
    """Two regions as one program on all pods; ends: cycles until each of them is done.

    found_by: the candidate that was fastest (``array_stages``).
    """

    program: SystolicProgram
    timing: Timing
    ends: tuple[int, int]
    found_by: str


def joint_program(
    first: Workload, second: Workload, description: ArrayDescription, number_format: str | Format
) -> JointProgram:
    """Two regions as one program, their operators scheduled together.

    The candidates of ``array_stages`` on the union of both graphs: stages whose groups come from
    both models among them. Its arguments and results are those of ``first``, then of ``second``.
    Raises ``CompileError`` where it is too large, or their formats differ.
    """
    if first.vectors != second.vectors:
        raise CompileError("two regions of different number formats are no one program")
    options = ScheduleOptions(enabled=True)
    whole = united(first, second)
    found = schedule_workload(whole, description, number_format, None, options)
    program = found.compiled.program
    timing = simulate(program, description)
    ends = np.zeros(len(program.steps), np.int64)
    np.maximum.at(ends, program.instructions["step"], timing.records["end"])
    own = len(first.steps)
    return JointProgram(program, timing, (int(ends[:own].max()), int(ends[own:].max())), found.best)


def united(one: Workload, other: Workload) -> Workload:
    """Two workloads that share nothing as one: the steps of ``one`` first, names made different."""
    by = len(one.tensors)
    steps = [_moved(step, 0, "0/") for step in one.steps]
    steps += [_moved(step, by, "1/") for step in other.steps]
    parts = one.parts + tuple(
        Part(part.tensor + by, part.whole + by, part.offset) for part in other.parts
    )
    return Workload(one.tensors + other.tensors, tuple(steps), parts, vectors=one.vectors)


def _moved(step: Step, by: int, prefix: str) -> Step:
    """A step with the numbers of its tensors raised."""
    given = step.epilogue
    scale = given.requantise
    epilogue = replace(
        given,
        bias=_raised(given.bias, by),
        residual=_raised(given.residual, by),
        requantise=None if scale is None else replace(scale, scale=scale.scale + by),
        dequantise=_raised(given.dequantise, by),
    )
    inputs = tuple(number + by for number in step.inputs)
    return replace(
        step, name=prefix + step.name, inputs=inputs, output=step.output + by, epilogue=epilogue
    )


def _raised(number: int | None, by: int) -> int | None:
    return None if number is None else number + by
