"""``motet simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from motet import api
from motet.commands.common import (
    chosen,
    compile_options,
    csv_option,
    input_option,
    json_option,
    model_option,
    one_format,
    request_of,
    seed_option,
    threads_option,
)
from motet.console import output, print_csv, print_json, progress, quantity, seconds, table
from motet.opening import open_or_compile, target_of
from motet.runtime.errors import SpecError
from motet.runtime.report import LayerReport, RunReport
from motet.tensors import parse_all_inputs

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
@click.argument("file", metavar="BUNDLE.motet | MODEL.onnx | SPEC.toml")
@model_option
@input_option
@compile_options
@threads_option
@seed_option
@json_option
@csv_option
def simulate(
    file: str,
    model: str | None,
    inputs: tuple[str, ...],
    target: str | None,
    shapes: tuple[str, ...],
    settings: tuple[str, ...],
    threads: int | None,
    seed: int,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Run on the simulated array: cycles and bytes per layer.

    A model (.onnx) is compiled for edge-64x64 unless --target names another array.
    """
    one_format(as_json, as_csv)
    request = request_of(target, shapes, settings)
    if target_of(file, request) == "host":
        if Path(file).suffix != ".onnx" or target is not None:
            raise SpecError(
                f"{file} is for the host: compile it for an array, as with --target {DEFAULT_ARRAY}"
            )
        request = request_of(DEFAULT_ARRAY, shapes, settings)
    bundle = open_or_compile(file, request)
    session = api.load(bundle, threads=threads)
    models = chosen(session, model)
    arrays = parse_all_inputs(models, inputs, seed)
    reports = []
    with progress("simulate", total=len(models)) as show:
        for one in models:
            show(one.name)
            reports.append(one.simulate(arrays[one.name]))
    if as_json:
        print_json([report.to_dict() for report in reports])
    elif as_csv:
        print_csv([row for report in reports for row in csv_rows(report)])
    else:
        for report in reports:
            _print(report, bundle.manifest.target)
        output().print(UTILISATION)


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


def _print(report: RunReport, target: str) -> None:
    columns = [
        "layer", "ONNX nodes", "runs on", ">MACs", ">cycles", ">utilisation",
        ">DRAM bound, cycles", ">bytes read", ">bytes written", ">host time",
    ]  # fmt: skip
    output().print(
        table(f"{report.model} on {target} (simulated)", columns, [_row(x) for x in report.layers])
    )
    output().print(totals(report) + "\n")


def totals(report: RunReport) -> str:
    """One line: share of the array, cycles, time, traffic, and the host's part."""
    array_time = seconds(report.array_seconds or 0.0)
    return (
        f"{100 * report.array_share:.1f} % of {quantity(report.macs)} MACs on the array: "
        f"{report.cycles:,} cycles ({array_time} at {quantity(report.clock_hz or 0, 'Hz')}, "
        f"simulated), {quantity(report.dram_bytes, 'B')} to and from DRAM; "
        f"host operators {seconds(report.host_seconds)} (measured)"
    )
