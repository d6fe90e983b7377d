"""``motet run``."""

from __future__ import annotations

import time
from typing import Any

import click
import numpy as np

from motet import api
from motet.commands.common import (
    chosen,
    compile_options,
    input_option,
    json_option,
    model_option,
    request_of,
    seed_option,
    threads_option,
)
from motet.console import output, print_json, seconds, table
from motet.opening import open_or_compile
from motet.runtime.device import Array
from motet.runtime.errors import InputError
from motet.tensors import parse_inputs, write_outputs


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet run headset.motet --model faces --input image=@face.png\n"
    "  motet run model.onnx --input x=@x.npy --output @y.npz\n"
    "  motet run headset.motet --json\n"
)  # fmt: skip
@click.argument("file", metavar="BUNDLE.motet | MODEL.onnx | SPEC.toml")
@model_option
@input_option
@click.option("--output", "outputs", multiple=True, metavar="@FILE.npz", help="Write the outputs.")
@compile_options
@threads_option
@seed_option
@json_option
def run(
    file: str,
    model: str | None,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    target: str | None,
    shapes: tuple[str, ...],
    settings: tuple[str, ...],
    threads: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Run a model once, on given or random inputs, and show its outputs."""
    bundle = open_or_compile(file, request_of(target, shapes, settings))
    session = api.load(bundle, threads=threads)
    models = chosen(session, model)
    if (inputs or outputs) and len(models) > 1:
        raise InputError(f"--input and --output need --model: one of {', '.join(session)}")
    report = []
    for one in models:
        arrays = parse_inputs(one, inputs, seed)
        started = time.perf_counter()
        results = one.run_named(arrays)
        elapsed = time.perf_counter() - started
        write_outputs(outputs, results)
        report.append({
            "model": one.name,
            "seconds": elapsed,
            "outputs": {name: _summary(array) for name, array in results.items()},
        })  # fmt: skip
    if as_json:
        print_json(report)
    else:
        _print(report)


def _summary(array: Array) -> dict[str, Any]:
    values = array.astype(np.float64).ravel()
    some = values[:8].tolist()
    result = {"dtype": array.dtype.name, "shape": list(array.shape), "first": some}
    if values.size:
        result |= {
            "min": float(values.min()),
            "max": float(values.max()),
            "mean": float(values.mean()),
            "argmax": int(values.argmax()),
        }
    return result


def _print(report: list[dict[str, Any]]) -> None:
    for entry in report:
        rows = [
            [
                name,
                f"{summary['dtype']} {' x '.join(map(str, summary['shape'])) or 'scalar'}",
                *(
                    f"{summary[key]:.5g}" if key in summary else "-"
                    for key in ("min", "max", "mean")
                ),
                str(summary.get("argmax", "-")),
                " ".join(f"{value:.4g}" for value in summary["first"]),
            ]
            for name, summary in entry["outputs"].items()
        ]
        title = f"{entry['model']} (first run {seconds(entry['seconds'])})"
        columns = ["output", "tensor", ">min", ">max", ">mean", ">argmax", "first values"]
        output().print(table(title, columns, rows))
