"""``motet simulate``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from motet.closed_forms import DATAFLOWS, MODES, OF_MODE, closed_form_rows
from motet.commands.common import (
    Format,
    array_options,
    format_options,
    model_option,
    print_as,
    tell_assumed,
)
from motet.commands.duration import Duration, duration_options
from motet.commands.simulate_files import Files, file_options
from motet.commands.simulate_tables import UTILISATION, print_closed_forms, print_models
from motet.console import progress, without_tvm_warnings
from motet.extras import naming_extras
from motet.opening import CompileRequest
from motet.runtime.errors import CompileError, SpecError
from motet.simulating import ArraySimulator, SimulatedModel, step_row
from motet.simulation_input import Accept, Work, work_of

TIMING = "timing"


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet simulate model.onnx --target tpu-128x128\n"
    "  motet simulate model.onnx --format int8 --plot roofline.svg\n"
    "  motet simulate headset.motet --model faces --csv > layers.csv\n"
    "  motet simulate model.onnx --target edge-64x64 --mode scalesim --json\n"
    "  motet simulate resnet18.csv --target scale.cfg\n"
    "  motet simulate headset.toml --duration 1s --policy edf --seed 7\n"
    "  motet simulate camera.motet --duration 2s --arrivals poisson --seeds 20\n"
    "\n" + UTILISATION + "\n"
)  # fmt: skip
@array_options
@click.argument("file", metavar="MODEL.onnx | SPEC.toml | BUNDLE.motet | TOPOLOGY.csv")
@model_option
@click.option(
    "--format",
    "number_format",
    type=click.Choice(["fp32", "bf16", "int8", "int4"]),
    help="Number format: int8 and int4 are what the model would take once quantised.",
)
@click.option(
    "--mode",
    type=click.Choice([TIMING, *MODES]),
    default=TIMING,
    show_default=True,
    metavar="NAME",
    help=f"timing: events, memories included. Compute cycles in closed form: {', '.join(MODES)}.",
)
@click.option(
    "--dataflow",
    type=click.Choice(DATAFLOWS),
    metavar="NAME",
    help="Dataflow of the closed forms; all that the mode has where absent.",
)
@duration_options
@file_options
@format_options
def simulate(
    compiling: CompileRequest,
    file: str,
    model: str | None,
    number_format: str | None,
    mode: str,
    dataflow: str | None,
    duration: Duration | None,
    files: Files,
    form: Format,
) -> None:
    """Cycles, bytes, energy on a simulated array; many runs too.

    No value is computed: motet run and motet check do that. Without --duration operators of the
    host are listed and take no time. A SCALE-Sim topology (.csv) is run as it is.
    """
    files.check()
    _check_options(mode, dataflow, duration, files)
    with naming_extras():
        if duration is not None and duration.is_for_host(file, compiling):
            files.refuse_mappings("these models run on the host")
            if number_format is not None:
                raise SpecError(f"--format {number_format}: these models run on the host")
            duration.on_host(file, compiling, model, form)
            return
        accept = duration.check if duration is not None else _anything
        is_long = duration is not None and duration.question.share_pods
        work = prepared(file, compiling, model, number_format, accept, is_long)
        if mode != TIMING:
            _closed_forms(work, mode, dataflow or _configured(compiling, work, mode), form)
            return
        if work.is_compiled:
            files.refuse_mappings(f"the programs of {file} have their mappings")
        simulator = ArraySimulator(
            work.description, work.number_format, files.constraints(work), work.stages,
            pods=work.pods,
        )  # fmt: skip
        with progress("simulate", lines=is_long) as show, _naming_mapping(files):
            results = [simulator.model(model, show) for model in work.models]
        files.write(simulator, results)
        if duration is None:
            _print(results, form)
        else:
            duration.on_array(work, results, file, compiling, form)


def _check_options(
    mode: str, dataflow: str | None, duration: Duration | None, files: Files
) -> None:
    """Raise ``SpecError`` for options that do not go together."""
    if duration is not None:
        files.refuse_pictures("--duration")
    if mode == TIMING:
        if dataflow is not None:
            raise SpecError(
                "--dataflow is for closed forms; pin dataflows with --mapping "
                '(a table ["*"] with dataflow = "..." is for all layers)'
            )
        return
    files.refuse_pictures(f"--mode {mode}")
    files.refuse_mappings(f"--mode {mode} has no mapping")
    if duration is not None:
        raise SpecError(f"--duration counts memories too: leave --mode {mode} out")


def _anything(_work: Work) -> None:
    """Nothing to refuse."""


def prepared(
    file: str,
    compiling: CompileRequest,
    model: str | None,
    number_format: str | None,
    accept: Accept = _anything,
    lines: bool = False,
) -> Work:
    """What ``file`` gives the array to do; warns of sizes that were taken as 1.

    accept: as ``work_of`` has it. lines: as ``progress`` has it.
    """
    with without_tvm_warnings(), progress("compile", lines=lines) as show:
        work = work_of(file, compiling, model, number_format, show, accept)
    for one in work.models:
        tell_assumed(one.model, one.assumed)
    return work


@contextmanager
def _naming_mapping(files: Files) -> Iterator[None]:
    """Name the mapping file where no mapping is as it asks."""
    try:
        yield
    except CompileError as error:
        if files.mapping is None:
            raise
        raise SpecError(f"--mapping {files.mapping}: {error}") from error


def _configured(compiling: CompileRequest, work: Work, mode: str) -> str | None:
    """The dataflow that a SCALE-Sim configuration sets, where ``mode`` has it."""
    if not (compiling.target or "").endswith(".cfg"):
        return None
    [flow] = work.description.pods[0].dataflows
    return flow if flow in OF_MODE[mode] else None


def _closed_forms(work: Work, mode: str, dataflow: str | None, form: Format) -> None:
    rows = closed_form_rows(work, mode, dataflow)
    print_as(form, rows, lambda: print_closed_forms(rows, mode, work.description.name))


def _print(results: list[SimulatedModel], form: Format) -> None:
    facts = [result.to_dict() for result in results]
    rows = [step_row(result.model, step) for result in results for step in result.steps]
    print_as(form, facts, lambda: print_models(results), rows)
