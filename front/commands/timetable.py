"""``motet timetable``."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from motet.commands.common import (
    Format,
    array_options,
    format_options,
    model_option,
    threads_option,
)
from motet.commands.duration import Duration, Time
from motet.commands.simulate import prepared
from motet.commands.timetable_tables import print_report
from motet.console import output, print_csv, print_json, progress, warn
from motet.extras import naming_extras
from motet.opening import CompileRequest, check_destination, check_picture, open_or_compile
from motet.runtime.atomic import write_atomically
from motet.runtime.errors import SpecError
from motet.runtime.progress import Show
from motet.simulating import ArraySimulator
from motet.targets.timetables.kinds import KINDS, best_of, timetables
from motet.targets.timetables.verify import plain, verified
from motet.timetabling import JOINTS

if TYPE_CHECKING:
    from motet.runtime.timetable import Timetable
    from motet.targets.timetables.jobs import Problem
    from motet.targets.timetables.kinds import Found
    from motet.targets.timetables.placing import Table
    from motet.together import Together

BEST, READ = "best", "read"


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet timetable headset.toml\n"
    "  motet timetable headset.toml -o timetable.json --plot timetable.svg\n"
    "  motet timetable headset.toml --kind space --json\n"
    "  motet timetable headset.toml --timetable timetable.json --duration 10s --seed 7\n"
    "  motet timetable headset.toml --set models.faces.rate_hz=60\n"
    "\n"
    "Frames come by rate_hz and after, from the specification; what a model is only sometimes "
    "asked for (probability) has its place always. Least are, in this order: frames that miss "
    "their deadline (those of the largest priority first), the largest share of its deadline that "
    "a frame uses, energy, latencies. docs/TIMETABLES.md has the rest.\n"
)  # fmt: skip
@array_options
@click.argument("file", metavar="SPEC.toml | BUNDLE.motet | MODEL.onnx")
@model_option
@click.option(
    "--format", "number_format", type=click.Choice(["fp32", "bf16", "int8", "int4"]),
    help="Number format: int8 and int4 are what the models would take once quantised.",
)  # fmt: skip
@click.option(
    "--kind", type=click.Choice([BEST, *KINDS]), default=BEST, show_default=True,
    help="time: all pods for each stage; space: pods of its own for each model; both.",
)  # fmt: skip
@click.option(
    "--joints", type=click.IntRange(0, 1000), default=JOINTS, show_default=True,
    help="Pairs of models for which a program of both together is tried.",
)  # fmt: skip
@click.option("-o", "--output", "destination", metavar="FILE.json", help="Write the timetable.")
@click.option(
    "--timetable", "source", metavar="FILE.json|.motet",
    help="Read a timetable, also a bundle's, check it against these models, and report it.",
)  # fmt: skip
@click.option("--plot", metavar="FILE.svg|.png", help="Draw the pods and the host over time.")
@click.option(
    "--duration", type=Time(), metavar="T",
    help="Play the timetable for T of simulated time (1s, 500ms), with chances.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of chance.")
@click.option(
    "--host",
    metavar="formula|measured|none|PROFILE.json",
    help="Times of the host's operators, as in motet simulate --duration.",
)
@threads_option
@format_options
def timetable(
    compiling: CompileRequest,
    file: str,
    model: str | None,
    number_format: str | None,
    kind: str,
    joints: int,
    destination: str | None,
    source: str | None,
    plot: str | None,
    duration: Fraction | None,
    seed: int,
    host: str | None,
    threads: int | None,
    form: Format,
) -> None:
    """Fix when each model has which pods, over a hyperperiod.

    Time multiplexing, pods of its own for every model, and both, each as good as a search makes it,
    with bounds that no timetable is below.
    """
    if Path(file).suffix == ".json":
        raise SpecError(
            f"{file}: a timetable is read beside its models: motet timetable SPEC.toml "
            f"--timetable {file}"
        )
    if source is not None and kind != BEST:
        raise SpecError("--kind is for making a timetable: leave it or --timetable out")
    if destination is not None:
        check_destination(Path(destination), "--output")
    if plot is not None:
        check_picture(Path(plot))
    with naming_extras():
        known = None if source is None else _read(source)
        asked = Duration(_no_question(), host, threads)
        together, problem = _problem(asked, file, compiling, model, number_format, joints, known)
        found, table, made_by = _made(problem, together, kind, known, source)
        _write(table, made_by, together, destination, plot)
        played = None if duration is None else _played(together, table, duration, seed)
        _print(together, table, made_by, found, played, form)


def _no_question() -> Any:
    """Timetables ask for no policy."""
    return None


def _read(source: str) -> Timetable:
    from motet.runtime.bundle import open_bundle
    from motet.runtime.timetable import from_json, read, to_json

    if not source.endswith(".motet"):
        return read(source)
    found = open_bundle(source).manifest.timetable
    if found is None:
        raise SpecError(
            f"{source}: the bundle has no timetable: compile it with --timetable FILE.json"
        )
    return from_json(to_json(found), source)


def _problem(
    asked: Duration,
    file: str,
    compiling: CompileRequest,
    model: str | None,
    number_format: str | None,
    joints: int,
    known: Timetable | None,
) -> tuple[Together, Problem]:
    """The models' frames and times on their machine; warns of what no timetable can put right."""
    from motet.timetabling import problem_of, refuse_rates
    from motet.together import on_array, on_host

    if asked.is_for_host(file, compiling):
        if number_format is not None:
            raise SpecError(f"--format {number_format}: these models run on the host")
        if asked.host == "none":
            raise SpecError("--host none: these models run on the host: nothing would take time")
        bundle = open_or_compile(file, compiling)
        with progress("measure", lines=True):
            together = on_host(bundle, asked.host, model, asked.threads)
        return together, problem_of(together)
    work = prepared(
        file, compiling, model, number_format, lambda work: refuse_rates(work, model), lines=True
    )
    simulator = ArraySimulator(work.description, work.number_format, {}, work.stages)
    with progress("simulate", lines=True) as show:
        results = [simulator.model(one, show) for one in work.models]
    together = on_array(work, results, lambda: open_or_compile(file, compiling), asked.host)
    with progress("time shares of the pods", lines=True) as show:
        pairs = None if known is None else _pairs(known)
        return together, problem_of(together, work, results, joints, pairs, show)


def _pairs(known: Timetable) -> list[tuple[str, str]]:
    """Models that share a slot."""
    slots = (slot.stages for slot in known.slots if len(slot.stages) == 2)
    return sorted({(one.model, other.model) for one, other in slots})


def _made(
    problem: Problem, together: Together, kind: str, known: Timetable | None, source: str | None
) -> tuple[list[Found], Table, str]:
    """The timetable that was asked for, how it was made, and the kinds that it was chosen from."""
    from motet.targets.timetables.bounds import bounds
    from motet.targets.timetables.kinds import Found

    if known is not None:
        for what, said, wanted in (
            ("machine", known.machine, together.machine),
            ("number_format", known.number_format, together.number_format),
        ):
            if said != wanted:
                raise SpecError(
                    f"{source}: {what} is {said!r}, and these models' is {wanted!r}: make it anew "
                    "with 'motet timetable'"
                )
        table = verified(known, problem, str(source))
        return [Found(READ, None, bounds(problem))], table, known.kind
    with progress("timetable", lines=True) as show:
        found = timetables(problem, KINDS if kind == BEST else (kind,), show=_told(show))
    best = best_of(found)
    assert best.table is not None
    return found, best.table, best.kind


def _told(show: Show) -> Show:
    return lambda kind: show(f"kind {kind}")


def _write(
    table: Table, kind: str, together: Together, destination: str | None, plot: str | None
) -> None:
    from motet.runtime.timetable import to_json

    if destination is not None:
        made = plain(table, kind, together.machine, together.number_format)
        write_atomically(Path(destination), [to_json(made)])
    if plot is not None:
        from motet.timetable_pictures import draw_timetable

        names = ", ".join(load.name for load in together.loads)
        draw_timetable(Path(plot), table, f"{names} on {together.machine}: {kind}")


def _played(together: Together, table: Table, duration: Fraction, seed: int) -> Any:
    from motet.timetabling import played

    return played(together, table, duration, seed)


def _print(
    together: Together, table: Table, kind: str, found: list[Found], played: Any, form: Format
) -> None:
    from motet.timetable_report import report

    told = report(together, table, kind, found)
    for model in told.models:
        if model.least_latency_seconds > model.deadline_seconds:
            warn(
                f"model {model.model!r}: no timetable ends its frames sooner than "
                f"{1e3 * model.least_latency_seconds:.4g} ms after their release, and the deadline "
                f"is {1e3 * model.deadline_seconds:.4g} ms after it: give it a larger deadline_ms"
            )
    late = sum(model.missed for model in told.models)
    if late:
        names = ", ".join(f"{m.missed} of {m.model}" for m in told.models if m.missed)
        warn(f"{late} of {told.frames} frames miss their deadline: {names}")
    if form is Format.JSON:
        facts = told.to_dict()
        if played is not None:
            facts["played"] = played.to_dict()
        print_json(facts)
    elif form is Format.CSV:
        rows = played.to_dict() if played is not None else told.to_dict()
        print_csv(rows["models"])
    else:
        print_report(told)
        if played is not None:
            from motet.commands.duration_tables import print_seconds

            output().print()
            print_seconds(played)
