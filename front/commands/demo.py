"""``motet demo``."""

from __future__ import annotations

import re
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import click
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from motet.commands.common import json_option
from motet.commands.simulate_tables import UTILISATION
from motet.console import (
    PIPE_WIDTH,
    output,
    print_json,
    progress,
    quantity,
    seconds,
    table,
    without_tvm_warnings,
)
from motet.demo import ARRAY, DemoResult, ModelResult, run_demo

PICTURE_WIDTH = 118


@click.command(epilog="Examples:\n\n\b\n  motet demo\n  motet demo --images 40 --json\n")
@click.option(
    "--examples", default="examples", show_default=True, help="The folder with the example models."
)
@click.option("--out", default="demo", show_default=True, help="Where the bundles go.")
@click.option("--images", type=click.IntRange(1), help="How many held-out images; all by default.")
@click.option("--svg", metavar="FILE.svg", help="Also draw the output as a picture.")
@json_option
def demo(examples: str, out: str, images: int | None, svg: str | None, as_json: bool) -> None:
    """Compile the example networks; run them on host and array."""
    with without_tvm_warnings(), progress("demo", lines=True) as show:
        result = run_demo(Path(examples), Path(out), images, show)
    if as_json:
        print_json(_plain(result))
        return
    print_result(result, output())
    if svg:
        picture = Console(record=True, width=PICTURE_WIDTH, file=StringIO(), highlight=False)
        print_result(result, picture)
        picture.save_svg(svg, title="motet demo", code_format=_without_web_fonts())


def _plain(result: DemoResult) -> dict[str, object]:
    return {
        "bundles": {target: str(path) for target, path in result.bundles.items()},
        "compile_seconds": dict(result.compile_seconds),
        "models": [asdict(model) | {"report": model.report.to_dict()} for model in result.models],
    }


def _without_web_fonts() -> str:
    """Rich's drawing with the reader's own monospace font: a picture asks no server."""
    return re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def print_result(result: DemoResult, console: Console) -> None:
    """Bundles, then a table for values and one for the machines."""
    for target, path in result.bundles.items():
        size, spent = quantity(path.stat().st_size, "B"), result.compile_seconds[target]
        console.print(
            f"{path}: {len(result.models)} models for {target}, {size}, compiled in {spent:.1f} s"
        )
    console.print()
    console.print(_values(result))
    console.print()
    console.print(_machines(result))
    console.print(
        f"{UTILISATION}; cycles and time: simulated, memories included",
        style="dim",
        soft_wrap=console.width == PIPE_WIDTH,
    )


def _values(result: DemoResult) -> object:
    columns = [
        "model", ">onnxruntime", ">host", ">array",
        ">largest\ndifference, host", ">array",
    ]  # fmt: skip
    rows = [
        [
            model.model,
            *(f"{100 * accuracy:.2f} %" for accuracy in _accuracies(model)),
            f"{model.host_error:.2g}",
            f"{model.array_error:.2g}",
        ]
        for model in result.models
    ]
    count = result.models[0].images
    return table(f"Accuracy on {count} held-out images; logits against onnxruntime", columns, rows)


def _accuracies(model: ModelResult) -> tuple[float, float, float]:
    return model.accuracy_onnxruntime, model.accuracy_host, model.accuracy_array


def _machines(result: DemoResult) -> object:
    columns = [
        "model", ">host", ">onnx-\nruntime", ">MACs", ">on the\narray", ">cycles",
        ">utili-\nsation", ">time",
    ]  # fmt: skip
    rows = []
    for model in result.models:
        report = model.report
        rows.append([
            model.model,
            seconds(model.latency_host),
            seconds(model.latency_onnxruntime),
            quantity(report.macs),
            f"{100 * report.array_share:.1f} %",
            f"{report.cycles:,}",
            f"{100 * report.utilisation:.1f} %",
            seconds(report.array_seconds or 0.0),
        ])  # fmt: skip
    return table(f"One image: this CPU (measured, median), and {ARRAY} (simulated)", columns, rows)
