"""``motet simulate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from motet.commands.common import Format, RunRequest, format_options, print_as, run_options
from motet.console import output, progress, quantity, seconds, table
from motet.opening import target_of
from motet.runtime.bundle import Bundle
from motet.runtime.errors import SpecError
from motet.runtime.report import LayerReport, RunReport

DEFAULT_ARRAY = "edge-64x64"
UTILISATION = (
    "utilisation = multiply-accumulates of the layer / (compute cycles x rows x columns); "
    "compute cycles: from the first weight row captured to the last output registered"
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
    """Run on the simulated array: cycles and bytes per layer.

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
    """A row per layer; the keys name the units."""
    return [
        {
            "model": report.model,
            "layer": layer.op,
            "onnx_nodes": " ".join(layer.onnx_nodes),
            "target": layer.target,
            "macs": layer.macs,
            "cycles": layer.array.cycles if layer.array else "",
            "utilisation": f"{layer.array.utilisation:.6f}" if layer.array else "",
            "dram_read_bytes": layer.array.dram_read_bytes if layer.array else "",
            "dram_write_bytes": layer.array.dram_write_bytes if layer.array else "",
            "dram_cycles": layer.array.dram_cycles if layer.array else "",
            "least_cycles": layer.array.least_cycles if layer.array else "",
            "tiles": layer.array.tiles if layer.array else "",
            "host_seconds": "" if layer.array else f"{layer.seconds:.9f}",
        }
        for layer in report.layers
    ]


COLUMNS = (
    "layer", "ONNX nodes", "runs on", ">MACs", ">compute\ncycles", ">utili-\nsation",
    ">DRAM\ncycles", ">bytes read", ">bytes\nwritten", ">host time",
)  # fmt: skip
LEFT_OUT = (0, 7, 8)
"""Columns that a narrow terminal has no room for; ``--csv`` has everything."""
ROOM = 110
"""Columns of text that the whole table takes, with short node names."""


def _row(layer: LayerReport) -> list[str]:
    name = ", ".join(layer.onnx_nodes) or layer.kind
    macs = f"{layer.macs:,}" if layer.macs else ""
    if layer.array is None:
        return [layer.op, name, "host", macs, "", "", "", "", "", seconds(layer.seconds)]
    counts = layer.array
    return [
        layer.op,
        name,
        "array",
        macs,
        f"{counts.cycles:,}",
        f"{100 * counts.utilisation:.1f} %",
        f"{counts.dram_cycles:,}" + ("*" if counts.dram_cycles > counts.cycles else ""),
        f"{counts.dram_read_bytes:,}",
        f"{counts.dram_write_bytes:,}",
        "",
    ]


def _fitting(row: Sequence[str], width: int) -> list[str]:
    return [cell for number, cell in enumerate(row) if width >= ROOM or number not in LEFT_OUT]


def _print(reports: Sequence[RunReport], bundle: Bundle) -> None:
    console = output()
    columns = _fitting(COLUMNS, console.width)
    for report in reports:
        rows = [_fitting(_row(layer), console.width) for layer in report.layers]
        title = f"{report.model} on {bundle.manifest.target} (simulated)"
        console.print(table(title, columns, rows))
        console.print(totals(report) + "\n")
    placed = [done.summary for done in bundle.manifest.passes if done.name == "place"]
    for summary in placed:
        if "refused (" in summary:
            console.print(f"on the host: {summary.partition('refused (')[2].removesuffix(')')}\n")
    console.print(f"{UTILISATION}; * DRAM takes longer than computation")


def totals(report: RunReport) -> str:
    """The array's share, cycles without and with DRAM, time, traffic, and the host's part."""
    least, clock = seconds(report.array_seconds or 0.0), quantity(report.clock_hz or 0, "Hz")
    return (
        f"{100 * report.array_share:.1f} % of {quantity(report.macs)} MACs on the array: "
        f"{report.cycles:,} compute cycles; with DRAM at least {report.least_cycles:,} cycles, "
        f"{least} at {clock} (simulated); {quantity(report.dram_bytes, 'B')} to and from DRAM; "
        f"host operators {seconds(report.host_seconds)} (measured, one warm run)"
    )
