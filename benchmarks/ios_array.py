"""Operators side by side on a multi-pod array: sequential, greedy and IOS, in simulated cycles.

Claim: on the networks that inter-operator schedulers are compared on (Ding et al., MLSys 2021,
batch 1), programs in which operators share the pods take fewer simulated cycles than those that
run one operator after another on all pods, and never more.

    python -m motet.benchmarks.ios_array [--network squeezenet] [--array 8x64x64]
        [--format int8] [--batch 1] [--size 0] [--json]

Every figure is the timing simulation's of a whole program, contention for DRAM and interconnect
included. ``mixed`` takes for each block of the network the stages of the candidate that was
fastest there; a candidate that is equal to an earlier one is not simulated again. An array
``PxRxC`` is SOSA's (``sosa-256x32x32``) with P pods of R x R: memories in proportion to R^2,
ports, lanes and links to R, DRAM as it is. Programs in int8 are what-ifs of the float networks.
``size``: edge of the images, 0 for the published one. Seconds are CPU time of this process:
``compile`` of the sequential program, ``schedule`` of all that scheduling adds.
"""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from msgspec.structs import replace

from motet.benchmarks.command_help import help_of
from motet.benchmarks.zoo import registry
from motet.console import output, print_json, quantity, table
from motet.opening import CompileRequest
from motet.passes.options import ScheduleOptions
from motet.passes.scheduling.array_stages import schedule_workload
from motet.runtime.errors import MotetError
from motet.simulation_input import array_of, work_of
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.workload.graph import Workload
from motet.targets.systolic.workload.what_if import in_format

BASE = "sosa-256x32x32"
NETWORKS = {
    "squeezenet": "bypass",
    "inception_v3": "plain",
    "randwire": "ws-154",
    "nasnet_a_large": "large",
}


@dataclass(frozen=True)
class Result:
    """One network on one array. cycles: by candidate, over all regions."""

    network: str
    array: str
    number_format: str
    batch: int
    steps: int
    regions: int
    cycles: dict[str, int]
    fastest: int
    compile_seconds: float
    schedule_seconds: float

    @property
    def speed_up(self) -> float:
        """Of the fastest programs over the sequential ones."""
        return self.cycles["sequential"] / self.fastest


def scaled(array: str) -> ArrayDescription:
    """A shipped array or a file, or SOSA's with other pods; see the module."""
    found = re.fullmatch(r"(\d+)x(\d+)x\2", array)
    if found is None:
        return array_of(array)
    base, (pods, side) = array_of(BASE), map(int, found.groups())
    pod = base.pods[0]
    times = side / pod.rows
    memories = (
        replace(
            memory, bytes=int(memory.bytes * times**2), port_bytes=int(memory.port_bytes * times)
        )
        for memory in (pod.scratchpad, pod.accumulators)
    )
    scratchpad, accumulators = memories
    made = replace(
        pod,
        count=pods,
        rows=side,
        columns=side,
        scratchpad=scratchpad,
        accumulators=accumulators,
        vector=replace(pod.vector, lanes=side),
    )
    links = replace(base.interconnect, link_bytes=int(base.interconnect.link_bytes * times))
    return replace(base, name=f"sosa-{array}", pods=(made,), interconnect=links)


def workloads(network: str, batch: int = 1, size: int = 0) -> list[Workload]:
    """The regions of a network of the zoo as the compiler places it on SOSA's array."""
    variant = NETWORKS[network] + (f"@{size}" if size else "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{network}.onnx")
        model = registry.build(network, variant)
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
        path.write_bytes(model.SerializeToString())
        work = work_of(str(path), CompileRequest(BASE))
    return [stage.workload for stage in work.models[0].stages if stage.workload is not None]


def measure(
    network: str, array: str, number_format: str = "int8", batch: int = 1, size: int = 0
) -> Result:
    """Schedule a network's regions on an array."""
    description, regions = scaled(array), workloads(network, batch, size)
    cycles: dict[str, int] = {}
    fastest, seconds = 0, [0.0, 0.0]
    for region in regions:
        changed, made = in_format(region, number_format)
        begin = time.process_time()
        compile_workload(changed, description, made)
        middle = time.process_time()
        options = ScheduleOptions(enabled=True)
        found = schedule_workload(changed, description, made, options=options)
        seconds[0] += middle - begin
        seconds[1] += time.process_time() - middle - (middle - begin)
        fastest += min(found.cycles.values())
        for name in ("sequential", "greedy", "ios", "mixed"):
            same = found.cycles.get(name, min(found.cycles.values()))
            cycles[name] = cycles.get(name, 0) + same
    steps = sum(len(region.steps) for region in regions)
    return Result(
        network, description.name, number_format, batch, steps, len(regions), cycles, fastest,
        *seconds,
    )  # fmt: skip


@click.command(help=help_of(__doc__))
@click.option(
    "--network", "networks", multiple=True, default=list(NETWORKS)[:3], show_default=True,
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
@click.option("--json", "as_json", is_flag=True)
def main(
    networks: tuple[str, ...],
    arrays: tuple[str, ...],
    number_format: str,
    batch: int,
    size: int,
    as_json: bool,
) -> None:
    """Measure and print."""
    try:
        results = [
            measure(network, array, number_format, batch, size)
            for network in networks
            for array in arrays
        ]
    except MotetError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json([{**asdict(result), "speed_up": result.speed_up} for result in results])
        return
    columns = [
        "network", "array", ">steps", ">sequential", ">greedy", ">IOS", ">mixed", ">speed-up",
        ">compile", ">schedule",
    ]  # fmt: skip
    rows = [
        [
            r.network,
            r.array,
            quantity(r.steps),
            *(f"{r.cycles[name]:,}" for name in ("sequential", "greedy", "ios", "mixed")),
            f"{r.speed_up:.3f}",
            f"{r.compile_seconds:.1f} s",
            f"{r.schedule_seconds:.1f} s",
        ]
        for r in results
    ]
    title = f"Simulated cycles, {number_format}, batch {batch}"
    output().print(table(title, columns, rows))


if __name__ == "__main__":
    main()
