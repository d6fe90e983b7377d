"""``motet bench``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import click
import numpy as np

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
from motet.console import Show, output, print_csv, print_json, progress, seconds, table
from motet.opening import open_or_compile, target_of
from motet.runtime.device import Array
from motet.runtime.errors import SpecError
from motet.runtime.session import ModelSession
from motet.tensors import parse_all_inputs


@dataclass(frozen=True)
class Latency:
    """Wall time of ``runs`` runs of a model, one after another, in seconds.

    first_seconds: the very first run, which also binds the program to the shapes; it and
    the warm-up are not among ``runs``.
    """

    model: str
    runs: int
    median_seconds: float
    p95_seconds: float
    p99_seconds: float
    minimum_seconds: float
    mean_seconds: float
    first_seconds: float
    runs_per_second: float


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  motet bench headset.motet\n"
    "  motet bench model.onnx --shape image:8x3x224x224 --threads 1 --duration 10\n"
    "  motet bench headset.motet --model faces --iterations 1000 --json\n"
    "\n"
    "A run is what session.run does: inputs copied in, kernels, outputs copied out. Percentiles "
    "are over single runs. A model is measured for --duration or --iterations, whichever ends "
    "first.\n"
)
@click.argument("file", metavar="BUNDLE.motet | MODEL.onnx | SPEC.toml")
@model_option
@click.option("--iterations", type=click.IntRange(1), help="Runs per model; as many as fit.")
@click.option(
    "--duration",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Per model; 3 where --iterations is not given either.",
)
@click.option(
    "--warmup", default=10, show_default=True, type=click.IntRange(0), help="Runs not counted."
)
@input_option
@compile_options
@threads_option
@seed_option
@json_option
@csv_option
def bench(
    file: str,
    model: str | None,
    iterations: int | None,
    duration: float | None,
    warmup: int,
    inputs: tuple[str, ...],
    target: str | None,
    shapes: tuple[str, ...],
    settings: tuple[str, ...],
    threads: int | None,
    seed: int,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Measure latency on this CPU: median and percentiles."""
    one_format(as_json, as_csv)
    if iterations is None and duration is None:
        duration = 3.0
    request = request_of(target, shapes, settings)
    machine = target_of(file, request)
    if machine != "host":
        raise SpecError(
            f"{file} is for {machine}, which is simulated: its wall time says nothing. "
            "motet simulate gives cycles; --target host measures this CPU"
        )
    models = chosen(api.load(open_or_compile(file, request), threads=threads), model)
    arrays = parse_all_inputs(models, inputs, seed)
    with progress("bench", total=len(models)) as show:
        found = [
            measure(one, arrays[one.name], warmup, iterations, duration, show) for one in models
        ]
    _print([asdict(latency) for latency in found], as_json, as_csv)


def measure(
    model: ModelSession,
    inputs: Mapping[str, Array],
    warmup: int,
    iterations: int | None,
    duration: float | None,
    show: Show = lambda _line: None,
) -> Latency:
    """Time runs of ``model`` for ``duration`` seconds or ``iterations`` runs; at least one."""
    show(model.name)
    first = _timed(model, inputs)
    for _ in range(warmup):
        model.run_named(inputs)
    times: list[float] = []
    started = time.perf_counter()
    while not times or (
        (iterations is None or len(times) < iterations)
        and (duration is None or time.perf_counter() - started < duration)
    ):
        times.append(_timed(model, inputs))
    elapsed = time.perf_counter() - started
    middle, p95, p99 = (float(q) for q in np.percentile(times, (50, 95, 99)))
    return Latency(
        model=model.name,
        runs=len(times),
        median_seconds=middle,
        p95_seconds=p95,
        p99_seconds=p99,
        minimum_seconds=min(times),
        mean_seconds=sum(times) / len(times),
        first_seconds=first,
        runs_per_second=len(times) / elapsed,
    )


def _timed(model: ModelSession, inputs: Mapping[str, Array]) -> float:
    started = time.perf_counter()
    model.run_named(inputs)
    return time.perf_counter() - started


def _print(found: list[dict[str, Any]], as_json: bool, as_csv: bool) -> None:
    if as_json:
        print_json(found)
    elif as_csv:
        print_csv(found)
    else:
        keys = ("median", "p95", "p99", "minimum", "mean", "first")
        rows = [
            [
                entry["model"],
                f"{entry['runs']:,}",
                *(seconds(entry[f"{key}_seconds"]) for key in keys),
                f"{entry['runs_per_second']:,.1f}",
            ]
            for entry in found
        ]
        columns = ["model", ">runs", *(f">{key}" for key in keys), ">runs per second"]
        output().print(table("host, measured", columns, rows))
