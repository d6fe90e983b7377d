"""``motet bench``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import click
import numpy as np

from motet.commands.common import Format, RunRequest, format_options, print_as, run_options
from motet.commands.profiles import print_profiles
from motet.console import output, progress, seconds, table
from motet.runtime.device import Array
from motet.runtime.errors import SpecError
from motet.runtime.profiler import DEFAULT_SECONDS, Profile, profile
from motet.runtime.progress import Show, silent
from motet.runtime.session import ModelSession


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
    "  motet bench model.onnx --threads 1 --profile --top 20\n"
    "\n"
    "A run is what session.run does: inputs copied in, kernels, outputs copied out. Percentiles "
    "are over single runs. A model is measured for --duration or --iterations, whichever ends "
    "first.\n"
)
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
@click.option(
    "--profile",
    "profiling",
    is_flag=True,
    help="Time every kernel call in its place in the run instead.",
)
@click.option(
    "--top", type=click.IntRange(1), metavar="N", help="Rows of --profile's table, dearest first."
)
@run_options
@format_options
def bench(
    request: RunRequest,
    iterations: int | None,
    duration: float | None,
    warmup: int,
    profiling: bool,
    top: int | None,
    form: Format,
) -> None:
    """Measure latency on this CPU: percentiles, or a profile."""
    if top is not None and not profiling:
        raise click.UsageError("--top goes with --profile")
    if iterations is None and duration is None:
        duration = DEFAULT_SECONDS
    models = request.models(request.load(partial(_refuse_array, request.file)))
    arrays = request.arrays(models)
    if profiling:
        print_profiles(form, _profiles(models, arrays, warmup, iterations, duration), top)
        return
    with progress("bench", total=len(models)) as show:
        found = [
            measure(one, arrays[one.name], warmup, iterations, duration, show) for one in models
        ]
    print_as(form, [asdict(latency) for latency in found], lambda: _print(found, models[0].threads))


def _profiles(
    models: Sequence[ModelSession],
    arrays: Mapping[str, Mapping[str, Array]],
    warmup: int,
    iterations: int | None,
    duration: float | None,
) -> list[Profile]:
    found = []
    with progress("profile", total=len(models)) as show:
        for one in models:
            show(one.name)
            inputs = arrays[one.name]
            found.append(
                profile(one, inputs, warmup=warmup, iterations=iterations, duration=duration)
            )
    return found


def _refuse_array(file: str, target: str) -> None:
    if target != "host":
        raise SpecError(
            f"{file} is for {target}, which is simulated: its wall time says nothing. "
            "motet simulate gives cycles; --target host measures this CPU"
        )


def measure(
    model: ModelSession,
    inputs: Mapping[str, Array],
    warmup: int,
    iterations: int | None,
    duration: float | None,
    show: Show = silent,
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


def _print(found: Sequence[Latency], threads: int) -> None:
    columns = [
        "model", ">runs", ">median", ">p95", ">p99", ">minimum", ">mean", ">first",
        ">runs per second",
    ]  # fmt: skip
    rows = [
        [
            latency.model,
            f"{latency.runs:,}",
            seconds(latency.median_seconds),
            seconds(latency.p95_seconds),
            seconds(latency.p99_seconds),
            seconds(latency.minimum_seconds),
            seconds(latency.mean_seconds),
            seconds(latency.first_seconds),
            f"{latency.runs_per_second:,.1f}",
        ]
        for latency in found
    ]
    output().print(table(f"host, {threads} thread{'s' * (threads > 1)}, measured", columns, rows))
