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
from motet.runtime.errors import SpecError
from motet.runtime.report import LayerReport, RunReport

DEFAULT_ARRAY = "edge-64x64"
UTILISATION = (
    "utilisation = multiply-accumulates of the layer / (cycles x rows x columns); "
    "cycles: from the first weight row captured to the last output registered"
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
        lambda: _print(reports, session.bundle.manifest.target),
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
            "tiles": layer.array.tiles if layer.array else "",
            "host_seconds": "" if layer.array else f"{layer.seconds:.9f}",
        }
        for layer in report.layers
    ]


def _row(layer: LayerReport) -> list[str]:
    name = ", ".join(layer.onnx_nodes) or layer.kind
    if layer.array is None:
        macs = f"{layer.macs:,}" if layer.macs else ""
        return [layer.op, name, "host", macs, "", "", "", "", "", seconds(layer.seconds)]
    counts = layer.array
    return [
        layer.op,
        name,
        "array",
        f"{layer.macs:,}",
        f"{counts.cycles:,}",
        f"{100 * counts.utilisation:.1f} %",
        f"{counts.dram_cycles:,}",
        f"{counts.dram_read_bytes:,}",
        f"{counts.dram_write_bytes:,}",
        "",
    ]


def _print(reports: Sequence[RunReport], target: str) -> None:
    columns = [
        "layer", "ONNX nodes", "runs on", ">MACs", ">cycles", ">utilisation",
        ">DRAM bound, cycles", ">bytes read", ">bytes written", ">host time",
    ]  # fmt: skip
    for report in reports:
        rows = [_row(layer) for layer in report.layers]
        output().print(table(f"{report.model} on {target} (simulated)", columns, rows))
        output().print(totals(report) + "\n")
    output().print(UTILISATION)


def totals(report: RunReport) -> str:
    """One line: share of the array, cycles, time, traffic, and the host's part."""
    array_time = seconds(report.array_seconds or 0.0)
    return (
        f"{100 * report.array_share:.1f} % of {quantity(report.macs)} MACs on the array: "
        f"{report.cycles:,} cycles ({array_time} at {quantity(report.clock_hz or 0, 'Hz')}, "
        f"simulated), {quantity(report.dram_bytes, 'B')} to and from DRAM; "
        f"host operators {seconds(report.host_seconds)} (measured)"
    )
