"""``motet explore``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from motet.commands.common import (
    Format,
    array_options,
    format_options,
    model_option,
    print_as,
)
from motet.commands.simulate import prepared
from motet.console import messages, output, progress, quantity, seconds, table
from motet.exploring import (
    ALIASES,
    BACKENDS,
    FORMAT,
    Point,
    Workers,
    described,
    grid,
    pareto,
    parse_sweeps,
)
from motet.exploring import (
    explore as explore_points,
)
from motet.extras import naming_extras
from motet.opening import CompileRequest, check_destination, check_picture
from motet.runtime.errors import SpecError


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet explore model.onnx --sweep size=16,32,64 --sweep pods=1,4,16\n"
    "  motet explore headset.toml --target sosa-256x32x32 --sweep interconnect=bus,crossbar \\\n"
    "      --results sweep.jsonl --plot pareto.svg\n"
    "  motet explore layers.csv --sweep dram.bytes_per_second=16e9,64e9 --csv > points.csv\n"
    "\n"
    "Keys: " + ", ".join([*ALIASES, FORMAT]) + ", or the dotted path of a key of the "
    "description, as pods.0.scratchpad.ports. A point is on the Pareto front where no other is "
    "better in latency, energy or power without being worse in another of them.\n"
)  # fmt: skip
@array_options
@click.argument("file", metavar="MODEL.onnx | SPEC.toml | TOPOLOGY.csv")
@model_option
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    required=True,
    metavar="KEY=V,V,...",
    help="Values of a key of the array's description; all combinations are simulated.",
)
@click.option(
    "--format",
    "number_format",
    type=click.Choice(["fp32", "bf16", "int8", "int4"]),
    help="Number format; --sweep format=int8,fp32 compares some.",
)
@click.option(
    "--results",
    metavar="FILE.jsonl",
    help="Keep every finished point here; a sweep that was stopped goes on from it.",
)
@click.option("--plot", metavar="FILE.svg", help="Draw latency, energy and power of all points.")
@click.option("--jobs", default=-1, show_default=True, help="Points at once; -1 is one per CPU.")
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default=BACKENDS[0],
    show_default=True,
    help="Where points run: local processes, or a Dask or Ray cluster.",
)
@click.option("--address", help="Of a running Dask scheduler or Ray head; local where absent.")
@format_options
def explore(
    compiling: CompileRequest,
    file: str,
    model: str | None,
    sweeps: tuple[str, ...],
    number_format: str | None,
    results: str | None,
    plot: str | None,
    jobs: int,
    backend: str,
    address: str | None,
    form: Format,
) -> None:
    """Simulate models on many arrays; say which are worth it.

    The base is --target (edge-64x64 where absent); --sweep changes its keys.
    """
    store = None if results is None else check_destination(Path(results), "--results")
    if plot is not None:
        check_picture(Path(plot))
    points = grid(parse_sweeps(sweeps))
    with naming_extras():
        work = prepared(file, compiling, model, number_format)
        if work.is_compiled:
            raise SpecError(
                f"{file}: its programs are for one array; give the models that it was made of"
            )
        for settings in points[:1]:
            described(work.description, settings)  # a wrong key is an error, not a point
        with progress("explore", total=len(points)) as show:
            done = explore_points(
                work, points, Workers(jobs, backend, address), store, lambda p: show(_named(p))
            )
        front = pareto(done)
        if plot is not None:
            from motet.simulation_pictures import draw_pareto

            draw_pareto(Path(plot), done, front)
    facts = [{**asdict(point), "pareto": point in front} for point in done]
    rows = [{**fact.pop("settings"), **fact} for fact in (dict(f) for f in facts)]
    print_as(form, facts, lambda: _print(done, front), rows)


def _named(point: Point) -> str:
    return ", ".join(f"{key}={value}" for key, value in point.settings.items())


COLUMNS = (
    ">latency", ">energy", ">power", ">cycles", ">utili-\nsation", ">MACs on\nthe array",
    ">DRAM", ">area",
)  # fmt: skip


def _print(points: Sequence[Point], front: Sequence[Point]) -> None:
    works = sorted((p for p in points if not p.error), key=lambda p: p.seconds_simulated or 0.0)
    keys = list(points[0].settings) if points else []
    rows = [_row(point, point in front, keys) for point in works]
    output().print(table("* on the Pareto front", ["", *keys, *COLUMNS], rows))
    for point in points:
        if point.error:
            messages().print(f"left out: {_named(point)}: {point.error}")


def _row(point: Point, is_best: bool, keys: Sequence[str]) -> list[str]:
    return [
        "*" if is_best else "",
        *(str(point.settings[key]) for key in keys),
        seconds(point.seconds_simulated or 0.0),
        _known(point.energy_joules, "J"),
        _known(point.watts, "W"),
        f"{point.cycles:,}",
        _percent(point.utilisation),
        _percent(point.array_share),
        _known(point.dram_bytes, "B"),
        "" if point.area_mm2 is None else f"{point.area_mm2:.1f} mm2",
    ]


def _known(value: Any, unit: str) -> str:
    return "" if value is None else quantity(value, unit)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
