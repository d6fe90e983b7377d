"""How long a workload takes on an array: by the mappings' closed forms, or simulated.

The formula adds the steps up, one after the other, each with its best mapping; the timing view
lets them overlap and contend. Using fewer pods is a resource like any other.
"""

from __future__ import annotations

import msgspec

from motet.runtime.errors import CompileError
from motet.targets.cost import Cost
from motet.targets.systolic.architecture import ArrayDescription, Pod
from motet.targets.systolic.emit.region import compile_workload, plan_workload
from motet.targets.systolic.formats import FORMATS, Format
from motet.targets.systolic.mappings.file import Constraints
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.graph import Workload


def estimate(
    workload: Workload,
    description: ArrayDescription,
    number_format: str | Format,
    pods: int | None = None,
    *,
    constraints: Constraints | None = None,
    simulated: bool = False,
) -> Cost:
    """The cost of one run of ``workload``.

    Parameters
    ----------
    pods: how many of the array's pods, from the first on, it may use; default all.
    constraints: of a mapping file, by step name.
    simulated: time the program, exact, instead of the formula.

    Raises
    ------
    CompileError: the workload does not fit the array, or ``pods`` is more than it has.
    """
    machine = description if pods is None else with_pods(description, pods)
    if simulated:
        compiled = compile_workload(workload, machine, number_format, constraints)
        return Cost(machine.seconds(simulate(compiled.program, machine).cycles), "simulated")
    made = FORMATS[number_format] if isinstance(number_format, str) else number_format

    cycles = plan_workload(workload, machine, made, constraints).cycles
    return Cost(machine.seconds(cycles), "formula")


def with_pods(description: ArrayDescription, pods: int) -> ArrayDescription:
    """``description`` with its first ``pods`` pods only; memory and links stay what they are."""
    if not 1 <= pods <= description.pod_count:
        raise CompileError(
            f"array {description.name!r} has {description.pod_count} pods; a workload can use 1 "
            f"to {description.pod_count}, not {pods}"
        )
    kept: list[Pod] = []
    for pod in description.pods:
        count = min(pod.count, pods)
        if count:
            kept.append(msgspec.structs.replace(pod, count=count))
        pods -= count
    return msgspec.structs.replace(description, pods=tuple(kept))
