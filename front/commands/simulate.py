"""``motet simulate``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from motet.commands.common import Format, RunRequest, format_options, print_as, run_options
from motet.console import output, progress, quantity, seconds, table
from motet.opening import target_of
from motet.runtime.bundle import Bundle
from motet.runtime.device import StepCounts
from motet.runtime.errors import SpecError
from motet.runtime.report import LayerReport, RunReport

DEFAULT_ARRAY = "edge-64x64"
UTILISATION = (
    "utilisation = multiply-accumulates / (cycles x processing elements): of a layer over the "
    "cycles in which arrays worked for it, of a model over all cycles and all pods"
)
OF_LAYERS = (
    "cycles of a layer: from its first instruction to its last, layers of one program overlap; "
    "speed of light: the least cycles that its arithmetic, scratchpads and DRAM take "
    "(* DRAM more than arithmetic)"
)


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet simulate model.onnx --target tpu-128x128\n"
    "  motet simulate headset.motet --model faces --csv > layers.csv\n"
    "\n" + UTILISATION + "\n"
)  # fmt: skip
@run_options
@format_options
def simulate(request: RunRequest, form: Format) -> None:
    """Run on the simulated array: cycles, bytes and energy per layer.

    A model (.onnx) is compiled for edge-64x64 unless --target names another array.
    """
    request = _for_an_array(request)
    session = request.load(partial(_refuse_host, request.file))
    models = request.models(session)
    arrays = request.arrays(models)
    reports = []
    with progress("simulate", total=len(models)) as show:
        for one in models:
            show(one.name)
            reports.append(one.simulate(arrays[one.name]))
    print_as(
        form,
        [report.to_dict() for report in reports],
        lambda: _print(reports, session.bundle),
        [row for report in reports for row in csv_rows(report)],
    )


def _for_an_array(request: RunRequest) -> RunRequest:
    """A bare model is for ``DEFAULT_ARRAY`` where nothing says what it is for."""
    compiling = request.compiling
    if Path(request.file).suffix != ".onnx" or compiling.target is not None:
        return request
    if target_of(request.file, compiling) != "host":
        return request
    return replace(request, compiling=replace(compiling, target=DEFAULT_ARRAY))


def _refuse_host(file: str, target: str) -> None:
    if target == "host":
        raise SpecError(
            f"{file} is for the host: compile it for an array, as with --target {DEFAULT_ARRAY}"
        )


def csv_rows(report: RunReport) -> list[dict[str, Any]]:
    """A row per step of an array program and per host operator; the keys name the units."""
    return [row for layer in report.layers for row in _csv_rows(report.model, layer)]


def _csv_rows(model: str, layer: LayerReport) -> Iterator[dict[str, Any]]:
    start = {"model": model, "layer": layer.op, "target": layer.target}
    if layer.array is None:
        names = {"onnx_nodes": " ".join(layer.onnx_nodes), "kind": layer.kind, "macs": layer.macs}
        host = {"host_seconds": f"{layer.seconds:.9f}"}
        yield start | names | dict.fromkeys(STEP_KEYS, "") | host
        return
    for step in layer.array.steps:
        names = {"onnx_nodes": step.name.replace("+", " "), "kind": step.kind, "macs": step.macs}
        cells = {key: getattr(step, key) for key in STEP_KEYS}
        cells["utilisation"] = f"{step.utilisation:.6f}"
        yield start | names | cells | {"host_seconds": ""}


STEP_KEYS = (
    "dataflow", "pods", "start_cycle", "end_cycle", "array_cycles", "utilisation", "tiles",
    "dram_read_bytes", "dram_write_bytes", "interconnect_bytes", "compute_bound",
    "scratchpad_bound", "dram_bound", "speed_of_light",
)  # fmt: skip

COLUMNS = (
    "layer", "ONNX nodes", "runs on", ">MACs", ">cycles", ">array\ncycles", ">utili-\nsation",
    ">speed of\nlight", ">bytes read", ">bytes\nwritten", ">host time",
)  # fmt: skip
LEFT_OUT = (0, 8, 9)
"""Columns that a narrow terminal has no room for; ``--csv`` has everything."""
ROOM = 120
"""Columns of text that the whole table takes, with short node names."""


def _rows(layer: LayerReport) -> list[list[str]]:
    """A row per step of an array program; one for a host operator."""
    if layer.array is None:
        name, macs = ", ".join(layer.onnx_nodes) or layer.kind, _macs(layer.macs)
        return [[layer.op, name, "host", macs, *[""] * 6, seconds(layer.seconds)]]
    return [
        [layer.op if number == 0 else "", *_step_cells(step)]
        for number, step in enumerate(layer.array.steps)
    ]


def _step_cells(step: StepCounts) -> list[str]:
    return [
        step.name.replace("+", ", ") or step.kind,
        "array" if step.pods == 1 else f"{step.pods} pods",
        _macs(step.macs),
        f"{step.end_cycle - step.start_cycle:,}",
        f"{step.array_cycles:,}" if step.array_cycles else "",
        f"{100 * step.utilisation:.1f} %" if step.macs else "",
        f"{step.speed_of_light:,}" + ("*" if step.dram_bound > step.compute_bound else ""),
        f"{step.dram_read_bytes:,}",
        f"{step.dram_write_bytes:,}",
        "",
    ]


def _macs(macs: int) -> str:
    return f"{macs:,}" if macs else ""


def _fitting(row: Sequence[str], width: int) -> list[str]:
    return [cell for number, cell in enumerate(row) if width >= ROOM or number not in LEFT_OUT]


def _print(reports: Sequence[RunReport], bundle: Bundle) -> None:
    console = output()
    columns = _fitting(COLUMNS, console.width)
    for report in reports:
        rows = [_fitting(row, console.width) for layer in report.layers for row in _rows(layer)]
        title = f"{report.model} on {bundle.manifest.target} (simulated)"
        console.print(table(title, columns, rows))
        console.print(totals(report) + "\n")
    placed = [done.summary for done in bundle.manifest.passes if done.name == "place"]
    for summary in placed:
        if "refused (" in summary:
            console.print(f"on the host: {summary.partition('refused (')[2].removesuffix(')')}\n")
    console.print(f"{UTILISATION}; {OF_LAYERS}")


def totals(report: RunReport) -> str:
    """The array's share, cycles, their bound, stalls, energy, traffic, and the host's part."""
    spent, clock = seconds(report.array_seconds or 0.0), quantity(report.clock_hz or 0, "Hz")
    light = report.speed_of_light_cycles
    near = f" ({100 * light / report.cycles:.1f} % of it reached)" if report.cycles else ""
    lines = [
        f"{100 * report.array_share:.1f} % of {quantity(report.macs)} MACs on the array: "
        f"{report.cycles:,} cycles, {spent} at {clock} (simulated), memories included; "
        f"utilisation {100 * report.utilisation:.1f} %; speed of light {light:,} cycles{near}; "
        f"{quantity(report.dram_bytes, 'B')} to and from DRAM; "
        f"host operators {seconds(report.host_seconds)} (measured, one warm run)"
    ]
    if stalls := _shares(report.stall_cycles):
        lines.append(f"where the arrays' time went: {stalls}")
    if energy := report.energy_joules:
        parts = _shares(energy)
        lines.append(f"energy {quantity(sum(energy.values()), 'J')}: {parts}")
    return "\n".join(lines)


def _shares(parts: Mapping[str, float]) -> str:
    """Parts of a whole in percent, the largest first; those that are nothing are left out."""
    whole = sum(parts.values())
    largest = sorted(parts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {100 * part / whole:.1f} %" for name, part in largest if part)
