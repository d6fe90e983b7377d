"""Schedules are for a batch size: what is best for one image is not for many, on an array too.

Claim (Ding et al., MLSys 2021, figure 9, there on a GPU): a schedule that IOS found for batch 1 is
slower at a larger batch than the one that it finds there, and the other way round.

    python -m motet.benchmarks.ios_array_batches [--network squeezenet] [--array 8x64x64]
        [--batch 1 --batch 32] [--size 0] [--json]

A row is the batch that a schedule (stages, groups and their pods) was made for, a column the batch
that runs; simulated cycles of whole programs, int8. Tiles and what stays on chip are
chosen for the batch that runs. Steps that one batch alone has (a concatenation, which is free at
batch 1) run in the group of the first step that reads them.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from motet.benchmarks.command_help import help_of
from motet.benchmarks.ios_networks import NETWORKS, scaled, workloads
from motet.console import output, print_json, table
from motet.passes.options import ScheduleOptions
from motet.passes.scheduling.array_stages import schedule_workload
from motet.runtime.errors import CompileError, MotetError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.formats import Format
from motet.targets.systolic.mappings.assignment import Assignment, Group, sequential
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.dependencies import predecessors
from motet.targets.systolic.workload.graph import Workload
from motet.targets.systolic.workload.what_if import in_format


def transferred(assignment: Assignment, made_for: Workload, workload: Workload) -> Assignment:
    """``assignment`` of the steps of ``made_for``, for those of the same names of ``workload``.

    A step that ``made_for`` lacks comes before the first step that reads it, in its group.
    """
    numbers = {step.name: number for number, step in enumerate(workload.steps)}
    names = [step.name for step in made_for.steps]
    known = {numbers[name] for name in names if name in numbers}
    before, done = predecessors(workload), set[int]()

    def with_needed(number: int) -> list[int]:
        """``number``, after what it reads that ``made_for`` lacks and that is not there yet."""
        found = [n for needed in sorted(before[number] - done - known) for n in with_needed(needed)]
        done.update((*found, number))
        return [*found, number]

    def moved(group: Group) -> Group:
        own = [numbers[names[n]] for n in group.steps if names[n] in numbers]
        return Group(tuple(n for number in own for n in with_needed(number)), group.pods)

    stages = [tuple(filter(lambda group: group.steps, map(moved, s))) for s in assignment.stages]
    return Assignment(tuple(filter(None, stages)))


def measure(
    network: str, array: str, batches: Sequence[int], size: int = 0
) -> dict[str, dict[int, int]]:
    """Cycles by the batch that runs, by what was scheduled: sequential, or for which batch."""
    description = scaled(array)
    regions: dict[int, Workload] = {}
    made: Format | None = None
    for batch in batches:
        found = workloads(network, batch, size)
        if len(found) != 1:
            raise CompileError(f"{array} takes {network} in {len(found)} regions, not one")
        regions[batch], made = in_format(found[0], "int8")
    assert made is not None
    schedules = {batch: _ios(regions[batch], description, made) for batch in batches}
    cycles: dict[str, dict[int, int]] = {}
    for run, workload in regions.items():
        one_by_one = sequential(workload, description)
        cycles.setdefault("sequential", {})[run] = _cycles(workload, description, made, one_by_one)
        for batch, assignment in schedules.items():
            moved = transferred(assignment, regions[batch], workload)
            cycles.setdefault(f"for batch {batch}", {})[run] = _cycles(
                workload, description, made, moved
            )
    return cycles


def _ios(workload: Workload, description: ArrayDescription, made: Format) -> Assignment:
    """The fastest of the candidates that scheduling makes."""
    found = schedule_workload(workload, description, made, options=ScheduleOptions(enabled=True))
    return min(found.candidates, key=lambda one: one.cycles).assignment


def _cycles(
    workload: Workload, description: ArrayDescription, made: Format, assignment: Assignment
) -> int:
    compiled = compile_workload(workload, description, made, assignment=assignment)
    return simulate(compiled.program, description).cycles


@click.command(help=help_of(__doc__))
@click.option("--network", default="squeezenet", show_default=True, type=click.Choice([*NETWORKS]))
@click.option("--array", default="8x64x64", show_default=True)
@click.option("--batch", "batches", multiple=True, default=[1, 32], type=click.IntRange(1))
@click.option("--size", default=0, show_default=True, type=click.IntRange(0))
@click.option("--json", "as_json", is_flag=True)
def main(network: str, array: str, batches: tuple[int, ...], size: int, as_json: bool) -> None:
    """Measure and print."""
    try:
        cycles = measure(network, array, batches, size)
    except MotetError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json({"network": network, "array": array, "cycles": cycles})
        return
    columns = ["schedule", *(f">batch {batch}" for batch in batches)]
    rows = [[name, *(f"{row[batch]:,}" for batch in batches)] for name, row in cycles.items()]
    output().print(table(f"Simulated cycles of {network} on {array}, int8", columns, rows))


if __name__ == "__main__":
    main()
