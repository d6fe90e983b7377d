"""Layers of ResNet-50 in SCALE-Sim 3.0.0 and here: cycles side by side, and wall-clock.

Claim: SCALE-Sim's compute cycles equal to the last one, thousands of times quicker.

    python -m motet.benchmarks.scalesim [--layers 4] [--array 32x32] [--memory-layers 1]
        [--dataflow ws] [--topology FILE.csv] [--python PATH] [--json]

SCALE-Sim runs in a process of its own, by --python: a Python that has `scalesim==3.0.0` (and
numpy below 2.3, which its memory simulation needs). Both read the same topology file; by
default layers of ResNet-50 at 224, spread over the network. Columns of seconds: SCALE-Sim's
demand matrices alone; with its memories (for --memory-layers, the smallest layers, as it takes
minutes); here the closed form in mode "scalesim"; and the whole timing view of the layer on
the same array (mapping, code, semaphores, memories), after a first run that compiles it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from motet.console import output, print_json, progress, seconds, table
from motet.errors import EnvironmentLackError, MotetError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.architecture_scalesim import DATAFLOWS, read_config
from motet.targets.systolic.closed_form import gemm_cycles
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.graph import Step, Workload, single
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct
from motet.targets.systolic.workload.scalesim import COLUMNS, read_topology

WORKER = Path(__file__).with_name("scalesim_worker.py")
CONFIG = """\
[general]
run_name = motet
[architecture_presets]
ArrayHeight: {rows}
ArrayWidth: {columns}
IfmapSramSzkB: 1024
FilterSramSzkB: 1024
OfmapSramSzkB: 512
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Dataflow: {dataflow}
ReadRequestBuffer: 32
WriteRequestBuffer: 32
[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 10
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 10
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2
[sparsity]
SparsitySupport: false
[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""


@dataclass(frozen=True)
class Row:
    """One layer under one dataflow.

    scalesim_seconds: of its demand matrices; memory_seconds: of its whole simulation, None where
    it was left out. view_cycles and view_seconds: of the timing view, memories included.
    """

    layer: str
    dataflow: str
    scalesim_cycles: int
    cycles: int
    double_buffered_cycles: int
    view_cycles: int
    scalesim_seconds: float
    memory_seconds: float | None
    closed_form_seconds: float
    view_seconds: float


@click.command(help=__doc__.splitlines()[0] if __doc__ else None)
@click.option(
    "--layers",
    default=4,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many layers of ResNet-50.",
)
@click.option("--array", default="32x32", show_default=True, help="ROWSxCOLUMNS.")
@click.option("--dataflow", "flows", multiple=True, type=click.Choice(list(DATAFLOWS)))
@click.option("--memory-layers", default=1, show_default=True)
@click.option("--topology", type=click.Path(path_type=Path), help="A SCALE-Sim topology instead.")
@click.option("--python", default=sys.executable, help="A Python that has scalesim.")
@click.option("--json", "as_json", is_flag=True)
def main(
    layers: int,
    array: str,
    flows: tuple[str, ...],
    memory_layers: int,
    topology: Path | None,
    python: str,
    as_json: bool,
) -> None:
    """Compare and print."""
    rows, _, columns = array.partition("x")
    if not (rows.isdigit() and columns.isdigit()):
        raise click.BadParameter("give ROWSxCOLUMNS, as in 32x32", param_hint="--array")
    with tempfile.TemporaryDirectory() as folder:
        path = topology or Path(folder, "layers.csv")
        if topology is None:
            path.write_text(resnet50_topology(layers), encoding="utf-8")
        try:
            results = []
            for flow in flows or tuple(DATAFLOWS):
                config = Path(folder, f"{flow}.cfg")
                config.write_text(CONFIG.format(rows=rows, columns=columns, dataflow=flow))
                results += compare(path, config, memory_layers, python)
        except MotetError as error:
            raise click.ClickException(str(error)) from error
    if as_json:
        print_json([asdict(row) for row in results])
    else:
        _print(results, array)
    sys.exit(any(row.cycles != row.scalesim_cycles for row in results))


def compare(topology: Path, config: Path, memory_layers: int, python: str) -> list[Row]:
    """Every layer of the topology, in SCALE-Sim and here."""
    workload, description = read_topology(topology), read_config(config)
    kind = "gemm" if isinstance(workload.steps[0].layer, MatrixProduct) else "conv"
    with progress(f"{description.pods[0].dataflows[0]}") as show:
        show("SCALE-Sim, demands")
        demands = _scalesim(python, config, topology, kind, "compute")
        show("SCALE-Sim, memory")
        dense = [at for at, step in enumerate(workload.steps) if _groups(step) == 1]
        small = sorted(dense, key=lambda at: workload.steps[at].layer.macs)[:memory_layers]
        memory = _memory_seconds(python, config, topology, kind, small)
        show("timing view")
        _view(workload.steps[0], description)  # compiles the timing view
        rows, at = [], 0
        for number, step in enumerate(workload.steps):
            many = _groups(step)  # a depthwise layer is one for each channel there
            rows.append(_row(step, description, demands[at : at + many], memory.get(number)))
            at += many
        return rows


def _groups(step: Step) -> int:
    assert isinstance(step.layer, (Convolution, MatrixProduct))
    return step.layer.product_shape.groups


def _row(
    step: Step,
    description: ArrayDescription,
    demands: Sequence[dict[str, Any]],
    memory: float | None,
) -> Row:
    pod = description.pods[0]
    assert isinstance(step.layer, (Convolution, MatrixProduct))
    groups, m, n, k = step.layer.product_shape
    flow = pod.dataflows[0]

    def closed(mode: str) -> int:
        return groups * gemm_cycles(m, n, k, pod.rows, pod.columns, flow, mode)

    view_seconds, view_cycles = _timed(lambda: _view(step, description), 1)
    form_seconds, cycles = _timed(lambda: closed("scalesim"), 1000)
    return Row(
        step.name,
        flow,
        sum(demand["compute_cycles"] for demand in demands),
        cycles,
        closed("double-buffered"),
        view_cycles,
        sum(demand["seconds"] for demand in demands),
        memory,
        form_seconds,
        view_seconds,
    )


def _view(step: Step, description: ArrayDescription) -> int:
    """Cycles of the timing view on one layer by itself."""
    compiled = compile_workload(_alone(step), description, "int8")
    return simulate(compiled.program, description).cycles


def _alone(step: Step) -> Workload:
    return single(step.layer, step.name)


def _timed(call: Callable[[], int], times: int) -> tuple[float, int]:
    """Mean seconds, and what the call returns."""
    start = time.perf_counter()
    for _ in range(times):
        result = call()
    return (time.perf_counter() - start) / times, result


def _memory_seconds(
    python: str, config: Path, topology: Path, kind: str, chosen: list[int]
) -> dict[int, float]:
    """Seconds of SCALE-Sim's whole simulation of the chosen layers, by their numbers."""
    if not chosen:
        return {}
    header, *lines = [line for line in topology.read_text().splitlines() if line.strip(" ,")]
    part = Path(config.parent, "memory.csv")
    part.write_text("\n".join([header, *(lines[at] for at in chosen)]) + "\n")
    results = _scalesim(python, config, part, kind, "memory")
    return {at: result["seconds"] for at, result in zip(chosen, results, strict=True)}


def _scalesim(
    python: str, config: Path, topology: Path, kind: str, what: str
) -> list[dict[str, Any]]:
    """SCALE-Sim's results, a dictionary per layer."""
    # Not as a file: its folder, where this module has SCALE-Sim's name, would come first.
    program = WORKER.read_text(encoding="utf-8")
    command = [python, "-c", program, str(config), str(topology), kind, what]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EnvironmentLackError(f"--python {python}: cannot run it: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EnvironmentLackError(
            f"SCALE-Sim failed in {python}: {last}; make an environment with "
            "`pip install scalesim==3.0.0 'numpy<2.3'` and name its Python by --python"
        )
    results: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return results


def resnet50_topology(count: int) -> str:
    """A topology of ``count`` different layers of ResNet-50 at 224, spread over the network.

    Sizes of inputs with padding, as SCALE-Sim has them; strides in the 3x3.
    """
    layers = list(dict.fromkeys(_resnet50()))
    step = max(1, len(layers) // max(1, count))
    lines = [",".join(COLUMNS["conv"])]
    lines += [",".join(map(str, (f"layer{at}", *layers[at]))) for at in range(0, len(layers), step)]
    return "".join(f"{line},\n" for line in lines[: count + 1])


def _resnet50() -> list[tuple[int, ...]]:
    """Input height and width, filter height and width, channels, filters, stride."""
    layers = [(229, 229, 7, 7, 3, 64, 2)]
    channels, size = 64, 56
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for block in range(blocks):
            stride = 2 if stage and block == 0 else 1
            layers.append((size, size, 1, 1, channels, width, 1))
            # A row less where the stride leaves it out: SCALE-Sim would round up.
            padded = size + 3 - stride
            layers.append((padded, padded, 3, 3, width, width, stride))
            if block == 0:
                layers.append((size + 1 - stride,) * 2 + (1, 1, channels, 4 * width, stride))
            size //= stride
            layers.append((size, size, 1, 1, width, 4 * width, 1))
            channels = 4 * width
    return [*layers, (1, 1, 1, 1, 2048, 1000, 1)]


def _print(results: list[Row], array: str) -> None:
    columns = [
        "layer", "dataflow", ">SCALE-Sim cycles", ">here", ">double-buffered", ">timing view",
        ">SCALE-Sim", ">with memory", ">closed form", ">view", ">demands / form", ">memory / view",
    ]  # fmt: skip
    rows = [
        [row.layer, row.dataflow, f"{row.scalesim_cycles:,}", f"{row.cycles:,}",
         f"{row.double_buffered_cycles:,}", f"{row.view_cycles:,}", seconds(row.scalesim_seconds),
         "" if row.memory_seconds is None else seconds(row.memory_seconds),
         seconds(row.closed_form_seconds), seconds(row.view_seconds),
         f"{row.scalesim_seconds / row.closed_form_seconds:,.0f}",
         "" if row.memory_seconds is None else f"{row.memory_seconds / row.view_seconds:,.0f}"]
        for row in results
    ]  # fmt: skip
    output().print(table(f"SCALE-Sim 3.0.0 and this project on {array}", columns, rows))


if __name__ == "__main__":
    main()
