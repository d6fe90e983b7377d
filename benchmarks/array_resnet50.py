"""ResNet-50 on simulated arrays: how near the peak it comes, and how long simulating takes.

Claims: on ``single-32x32`` in int8, memories included, the convolutions reach at least 95% of
the array's peak, and the timing view takes at most a second; on ``sosa-256x32x32`` at batch 8 it
takes at most ten.

    python -m motet.benchmarks.array_resnet50 [--array single-32x32] [--batch 1] [--json]

Seconds are wall time of this process, the second of two runs (the first one loads compiled
code): ``program`` is mapping, code generation and semaphores, ``timing`` the timing view alone.
Peak over the convolutions: their multiply-accumulates / (cycles from the start of the first to
the end of the last x processing elements of all pods), so that whatever waits in between counts.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from motet.benchmarks.command_help import help_of
from motet.benchmarks.zoo import registry
from motet.console import output, print_json, quantity, table
from motet.opening import CompileRequest
from motet.runtime.errors import MotetError
from motet.simulation_input import work_of
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.simulation.counts import program_counts
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.graph import Workload
from motet.targets.systolic.workload.what_if import in_format


@dataclass(frozen=True)
class Result:
    """One array's figures; see the module for what they mean."""

    array: str
    number_format: str
    batch: int
    instructions: int
    cycles: int
    utilisation: float
    peak_over_convolutions: float
    program_seconds: float
    timing_seconds: float


def workload(batch: int, array: str) -> tuple[Workload, ArrayDescription]:
    """ResNet-50 of the zoo as the compiler places it: one region."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "resnet50.onnx")
        model = registry.build("resnet50")
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
        path.write_bytes(model.SerializeToString())
        work = work_of(str(path), CompileRequest(array))
    regions = [stage.workload for stage in work.models[0].stages if stage.workload is not None]
    if len(regions) != 1:
        raise click.ClickException(f"{array} takes ResNet-50 in {len(regions)} regions, not one")
    return regions[0], work.description


def measure(batch: int, array: str, number_format: str) -> Result:
    """Compile and time twice; the second run counts."""
    whole, description = workload(batch, array)
    changed, made = in_format(whole, number_format)
    for _ in range(2):
        begin = time.perf_counter()
        program = compile_workload(changed, description, made).program
        middle = time.perf_counter()
        timing = simulate(program, description)
        end = time.perf_counter()
    counts = program_counts(program, description, timing)
    convolutions = [step for step in counts.steps if step.kind == "Convolution"]
    first = min(step.start_cycle for step in convolutions)
    last = max(step.end_cycle for step in convolutions)
    macs = sum(step.macs for step in convolutions)
    return Result(
        array,
        number_format,
        batch,
        len(program.instructions),
        timing.cycles,
        counts.utilisation,
        macs / ((last - first) * description.elements),
        middle - begin,
        end - middle,
    )


@click.command(help=help_of(__doc__))
@click.option("--array", "arrays", multiple=True, default=["single-32x32"], show_default=True)
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1))
@click.option(
    "--format",
    "number_format",
    default="int8",
    show_default=True,
    type=click.Choice(["fp32", "bf16", "int8", "int4"]),
)
@click.option("--json", "as_json", is_flag=True)
def main(arrays: tuple[str, ...], batch: int, number_format: str, as_json: bool) -> None:
    """Measure and print."""
    try:
        results = [measure(batch, array, number_format) for array in arrays]
    except MotetError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json([asdict(result) for result in results])
        return
    columns = [
        "array", "format", ">batch", ">instructions", ">cycles", ">utilisation",
        ">of peak over\nconvolutions", ">program", ">timing",
    ]  # fmt: skip
    rows = [
        [
            r.array,
            r.number_format,
            str(r.batch),
            quantity(r.instructions),
            f"{r.cycles:,}",
            f"{r.utilisation:.1%}",
            f"{r.peak_over_convolutions:.1%}",
            f"{r.program_seconds:.2f} s",
            f"{r.timing_seconds:.2f} s",
        ]
        for r in results
    ]
    output().print(table("ResNet-50, simulated", columns, rows))


if __name__ == "__main__":
    main()
