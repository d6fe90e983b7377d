"""Operators side by side on a multi-pod array: sequential, greedy, IOS, IOS with merge, in cycles.

Claim: on the networks that inter-operator schedulers are compared on (Ding et al., MLSys 2021,
batch 1), programs in which operators share the pods take fewer simulated cycles than those that
run one operator after another on all pods, and never more.

    python -m motet.benchmarks.ios_array [--network squeezenet] [--array 8x64x64]
        [--format int8] [--batch 1] [--size 0] [--no-merge] [--json] [--plot ios.svg]

Every figure is the timing simulation's of a whole program, contention for DRAM and interconnect
included. ``lean`` leaves pods that no group needs to what comes next. ``mixed`` takes for each
block of the network the stages of the candidate that was fastest there; a candidate that is equal
to an earlier one is not simulated again. ``merge``: the fastest of the same candidates with
convolutions of one value merged, as the stages with the least estimated time have them, or all of
equal kernels, whichever takes fewer cycles; a dash where there is nothing to merge. An array
``PxRxC`` is SOSA's (``sosa-256x32x32``) with P pods of R x R: memories in proportion to R^2, ports,
lanes and links to R, DRAM as it is. Programs in int8 are what-ifs of the float networks. ``size``:
edge of the images, 0 for the published one. Seconds are CPU time of this process: ``compile`` of
the sequential program, ``schedule`` of all that scheduling and merging add.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from motet.benchmarks.command_help import help_of
from motet.benchmarks.ios_networks import NETWORKS, Network, scaled
from motet.benchmarks.ios_plot import plot
from motet.console import output, print_json, progress, quantity, table
from motet.passes.options import ScheduleOptions
from motet.passes.scheduling.array_stages import Scheduled, schedule_workload
from motet.runtime.errors import MotetError
from motet.runtime.progress import Show, silent
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.graph import Workload
from motet.targets.systolic.workload.what_if import in_format

CANDIDATES = ("sequential", "greedy", "ios", "lean", "mixed")


@dataclass(frozen=True)
class Result:
    """One network on one array.

    cycles: by candidate, over all regions. merge: the fewest with merges, None where there are
    none; merged: how many convolutions become how many. fastest: of all.
    """

    network: str
    array: str
    number_format: str
    batch: int
    steps: int
    regions: int
    cycles: dict[str, int]
    merge: int | None
    merged: tuple[int, int]
    fastest: int
    compile_seconds: float
    schedule_seconds: float

    @property
    def speed_up(self) -> float:
        """Of the fastest programs over the sequential ones."""
        return self.cycles["sequential"] / self.fastest


def measure(
    network: str,
    array: str,
    number_format: str = "int8",
    batch: int = 1,
    size: int = 0,
    show: Show = silent,
    *,
    merge: bool = True,
) -> Result:
    """Schedule a network's regions on an array; ``show`` is told of ``STEPS`` steps.

    merge: whether merges are tried too, each for as long as the network takes without.
    """
    show(f"{network}: import")
    description, made = scaled(array), Network(network, batch, size)
    regions = made.regions()
    show(f"{network}: one operator after another")
    begin = time.process_time()
    for changed, what_if in (in_format(region, number_format) for region in regions):
        compile_workload(changed, description, what_if)
    compiled = time.process_time()
    show(f"{network}: stages")
    cycles = _scheduled(regions, description, number_format)
    show(f"{network}: merges")
    tried = [
        (min(_scheduled(made.regions(groups), description, number_format).values()), groups)
        for groups in (made.proposals(description, number_format) if merge else ())
    ]
    end = time.process_time()
    fewest, groups = min(tried, key=lambda one: one[0], default=(None, ()))
    return Result(
        network=network,
        array=description.name,
        number_format=number_format,
        batch=batch,
        steps=sum(len(region.steps) for region in regions),
        regions=len(regions),
        cycles=cycles,
        merge=fewest,
        merged=made.counted(groups),
        fastest=min([*cycles.values(), *(one for one, _ in tried)]),
        compile_seconds=compiled - begin,
        schedule_seconds=end - compiled - (compiled - begin),
    )


STEPS = 4
"""Of one network, as progress counts them."""


def _scheduled(
    regions: list[Workload], description: ArrayDescription, number_format: str
) -> dict[str, int]:
    """Cycles by candidate, over all regions."""
    cycles = dict.fromkeys(CANDIDATES, 0)
    for region in regions:
        changed, made = in_format(region, number_format)
        options = ScheduleOptions(enabled=True)
        found = schedule_workload(changed, description, made, options=options)
        for name, taken in _by_candidate(found, description).items():
            cycles[name] += taken
    return cycles


def _by_candidate(found: Scheduled, description: ArrayDescription) -> dict[str, int]:
    """A candidate that equals an earlier one takes what that takes; a chain has one."""
    known = found.cycles or {"sequential": simulate(found.compiled.program, description).cycles}
    return {name: known.get(found.equal.get(name, name), min(known.values()))
            for name in CANDIDATES}  # fmt: skip


@click.command(help=help_of(__doc__))
@click.option(
    "--network", "networks", multiple=True, default=list(NETWORKS), show_default=True,
    type=click.Choice(list(NETWORKS)),
)  # fmt: skip
@click.option("--array", "arrays", multiple=True, default=["8x64x64"], show_default=True)
@click.option(
    "--format",
    "number_format",
    default="int8",
    show_default=True,
    type=click.Choice(["fp32", "bf16", "int8", "int4"]),
)
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1))
@click.option("--size", default=0, show_default=True, type=click.IntRange(0))
@click.option("--merge/--no-merge", default=True, help="Whether merges are tried too.")
@click.option("--json", "as_json", is_flag=True)
@click.option("--plot", "picture", type=click.Path(path_type=Path, dir_okay=False))
def main(
    networks: tuple[str, ...],
    arrays: tuple[str, ...],
    number_format: str,
    batch: int,
    size: int,
    merge: bool,
    as_json: bool,
    picture: Path | None,
) -> None:
    """Measure and print."""
    try:
        with progress("ios_array", STEPS * len(networks) * len(arrays), lines=True) as show:
            results = [
                measure(network, array, number_format, batch, size, show, merge=merge)
                for network in networks
                for array in arrays
            ]
        if picture is not None:
            bars = [{**one.cycles, **({"merge": one.merge} if one.merge else {})}
                    for one in results]  # fmt: skip
            plot(picture, [(f"{one.network}\n{one.array}") for one in results], bars)
    except MotetError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json([{**asdict(result), "speed_up": result.speed_up} for result in results])
    else:
        _print(results, f"Simulated cycles, {number_format}, batch {batch}")


def _print(results: list[Result], title: str) -> None:
    columns = [
        "network", "array", ">steps", *(f">{name}" for name in CANDIDATES), ">merge", ">merged",
        ">speed-up", ">compile", ">schedule",
    ]  # fmt: skip
    rows = [
        [
            r.network,
            r.array,
            quantity(r.steps),
            *(f"{r.cycles[name]:,}" for name in CANDIDATES),
            f"{r.merge:,}" if r.merge else "-",
            "{} to {}".format(*r.merged) if r.merge else "-",
            f"{r.speed_up:.3f}",
            f"{r.compile_seconds:.1f} s",
            f"{r.schedule_seconds:.1f} s",
        ]
        for r in results
    ]
    output().print(table(title, columns, rows))


if __name__ == "__main__":
    main()
