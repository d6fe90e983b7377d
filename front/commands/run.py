"""``motet run``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from motet.commands.common import RunRequest, json_option, run_options
from motet.console import output, print_json, progress, seconds, table
from motet.opening import check_destination
from motet.runtime.device import Array
from motet.runtime.element_types import carried
from motet.runtime.progress import Show
from motet.runtime.session import ModelSession
from motet.tensors import parse_outputs, write_outputs

Results = dict[str, dict[str, Array]]
"""Model -> output -> array."""


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet run headset.motet --model faces --input image=@face.png\n"
    "  motet run model.onnx --input x=@x.npy --output @y.npz\n"
    "  motet run headset.motet --input faces.image=@face.png --json\n"
    "\n"
    "Without --model all models run, along the wires where the specification has some.\n"
)  # fmt: skip
@click.option(
    "--output", "outputs", multiple=True, metavar="@FILE",
    help="Write all outputs (@FILE.npz) or one (NAME=@FILE.npy).",
)  # fmt: skip
@run_options
@json_option
def run(request: RunRequest, outputs: tuple[str, ...], as_json: bool) -> None:
    """Run models once, on given or random inputs."""
    session = request.load()
    models = request.models(session)
    wanted = parse_outputs(outputs, _output_names(models))
    for path, _ in wanted:
        check_destination(path, "--output")
    wired = request.model is None and any(one.entry.wires for one in models)
    arrays = request.arrays(models, along_wires=wired)
    times: dict[str, float] = {}  # a round along the wires has none of single models
    with progress("run", total=len(models)) as show:
        if wired:
            results = session.run_all(arrays)
        else:
            results, times = _run_each(models, arrays, show)
    results = {name: session[name].outputs.tensors(r) for name, r in results.items()}
    write_outputs(wanted, _flat(results))
    report = [
        {
            "model": name,
            "seconds": times.get(name),
            "outputs": {output: _summary(array) for output, array in arrays.items()},
        }
        for name, arrays in results.items()
    ]
    if as_json:
        print_json(report)
    else:
        _print(report)


def _run_each(
    models: Sequence[ModelSession], arrays: Mapping[str, Mapping[str, Array]], show: Show
) -> tuple[Results, dict[str, float]]:
    results, times = {}, {}
    for one in models:
        show(one.name)
        started = time.perf_counter()
        results[one.name] = one.run_named(arrays[one.name])
        times[one.name] = time.perf_counter() - started
    return results, times


def _output_names(models: Sequence[ModelSession]) -> list[str]:
    several = len(models) > 1
    return [
        f"{one.name}.{info.name}" if several else info.name
        for one in models
        for info in one.program.outputs
    ]


def _flat(results: Results) -> dict[str, Array]:
    """Outputs under the names of ``_output_names``."""
    several = len(results) > 1
    return {
        f"{model}.{name}" if several else name: array
        for model, outputs in results.items()
        for name, array in outputs.items()
    }


def _summary(array: Array) -> dict[str, Any]:
    values = carried(array).ravel()
    result = {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "first": values[:8].tolist(),
    }
    if values.size:
        result |= {
            "min": values.min().item(),
            "max": values.max().item(),
            "mean": float(values.mean(dtype="float64")),
            "argmax": int(values.argmax()),
        }
    return result


def _print(report: list[dict[str, Any]]) -> None:
    for entry in report:
        rows = [
            [
                name,
                f"{summary['dtype']} {' x '.join(map(str, summary['shape'])) or 'scalar'}",
                *(_number(summary.get(key)) for key in ("min", "max", "mean", "argmax")),
                " ".join(_number(value) for value in summary["first"]),
            ]
            for name, summary in entry["outputs"].items()
        ]
        spent = entry["seconds"]
        title = entry["model"] + ("" if spent is None else f" (first run {seconds(spent)})")
        columns = ["output", "tensor", ">min", ">max", ">mean", ">argmax", "first values"]
        output().print(table(title, columns, rows))


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
