"""``motet simulate``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from motet.closed_forms import MODES, closed_form_rows
from motet.commands.common import (
    Format,
    compile_options,
    format_options,
    model_option,
    print_as,
)
from motet.commands.simulate_tables import UTILISATION, print_closed_forms, print_models
from motet.console import progress, warn, without_tvm_warnings
from motet.opening import CompileRequest, check_destination
from motet.runtime.errors import SpecError
from motet.simulating import ArraySimulator, SimulatedModel, step_row
from motet.simulation_input import Work, work_of

TIMING = "timing"
MAPPING_HEAD = "# Mappings by step"
"""How the files of ``mappings.file`` begin."""
PLOTS = ("timeline", "roofline")


@dataclass(frozen=True)
class Files:
    """What to write beside the report; None for nothing."""

    mapping: str | None
    save_mapping: str | None
    trace: str | None
    plots: tuple[str, ...]

    def check(self) -> None:
        """Raise ``SpecError`` before time is spent where a file could not be written."""
        if self.save_mapping:
            check_destination(Path(self.save_mapping), "--save-mapping", MAPPING_HEAD)
        if self.trace:
            check_destination(Path(self.trace), "--trace")
        for plot in self.plots:
            check_destination(Path(plot), "--plot")
            plot_kind(plot)

    @property
    def wants_timing(self) -> bool:
        """Whether something is drawn of single instructions."""
        return bool(self.trace or self.plots)


def plot_kind(path: str) -> str:
    """The plot that a file's name asks for."""
    kinds = [kind for kind in PLOTS if kind in Path(path).stem]
    if len(kinds) != 1 or Path(path).suffix not in (".svg", ".png", ".pdf"):
        raise SpecError(
            f"--plot {path}: the name says what to draw: timeline.svg or roofline.svg "
            "(also as .png or .pdf; faces-timeline.svg is a timeline too)"
        )
    return kinds[0]


_FILE_OPTIONS = (
    click.option(
        "--mapping", metavar="FILE.toml", type=click.Path(exists=True, dir_okay=False),
        help="Tiles, dataflows and pods by layer name; what it leaves out is searched.",
    ),
    click.option(
        "--save-mapping", metavar="FILE.toml",
        help="Write the mapping that was used; edit it and give it to --mapping.",
    ),
    click.option(
        "--trace", metavar="OUT.json",
        help="Write what every engine, DMA request and link did; opens in Perfetto.",
    ),
    click.option(
        "--plot", "plots", multiple=True, metavar="timeline.svg|roofline.svg",
        help="Draw the pods over time, or the layers under the roofline.",
    ),
)  # fmt: skip


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name files; the command gets ``files``."""

    @wraps(command)
    def gathered(
        *arguments: Any,
        mapping: str | None,
        save_mapping: str | None,
        trace: str | None,
        plots: tuple[str, ...],
        **others: Any,
    ) -> Any:
        return command(*arguments, files=Files(mapping, save_mapping, trace, plots), **others)

    for option in reversed(_FILE_OPTIONS):
        gathered = option(gathered)
    return gathered


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet simulate model.onnx --target tpu-128x128\n"
    "  motet simulate model.onnx --format int8 --plot roofline.svg\n"
    "  motet simulate headset.motet --model faces --csv > layers.csv\n"
    "  motet simulate model.onnx --target edge-64x64 --mode scalesim --json\n"
    "  motet simulate resnet18.csv --target scale.cfg\n"
    "\n" + UTILISATION + "\n"
)  # fmt: skip
@compile_options
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
    help="timing: events, memories included. The others: compute cycles in closed form.",
)
@click.option(
    "--dataflow",
    type=click.Choice(["weight-stationary", "output-stationary", "input-stationary"]),
    help="Dataflow of the closed forms; all that the mode has where absent.",
)
@file_options
@format_options
def simulate(
    compiling: CompileRequest,
    file: str,
    model: str | None,
    number_format: str | None,
    mode: str,
    dataflow: str | None,
    files: Files,
    form: Format,
) -> None:
    """Cycles, bytes and energy of models on a simulated array.

    A model is for edge-64x64 unless --target says otherwise. No value is computed: motet run
    and motet check do that. A SCALE-Sim topology (.csv) is run as it is, and --target takes a
    SCALE-Sim .cfg file too.
    """
    files.check()
    work = prepared(file, compiling, model, number_format)
    if mode != TIMING:
        _closed_forms(work, mode, dataflow, files, form)
        return
    if dataflow is not None:
        raise SpecError(
            "--dataflow is for closed forms; pin dataflows with --mapping "
            '(a table ["*"] with dataflow = "..." is for all layers)'
        )
    simulator = ArraySimulator(work.description, work.number_format, _constraints(files.mapping))
    results = _simulated(work, simulator)
    _write(files, simulator, results)
    print_as(
        form,
        [result.to_dict() for result in results],
        lambda: print_models(results),
        [step_row(result.model, step) for result in results for step in result.steps],
    )


def prepared(
    file: str, compiling: CompileRequest, model: str | None, number_format: str | None
) -> Work:
    """What ``file`` gives the array to do; warns of sizes that were taken as 1."""
    with without_tvm_warnings(), progress("compile") as show:
        work = work_of(file, compiling, model, number_format, show)
    for one in work.models:
        if one.assumed:
            shapes = ", ".join(f"{n}:{'x'.join(map(str, s))}" for n, s in one.assumed.items())
            warn(f"model {one.model!r}: open sizes are taken as 1 ({shapes}); --shape sets others")
    return work


def _constraints(path: str | None) -> Mapping[str, Any] | None:
    if path is None:
        return None
    from motet.targets.systolic.mappings.file import load_mappings

    return load_mappings(path)


def _simulated(work: Work, simulator: ArraySimulator) -> list[SimulatedModel]:
    with progress("simulate") as show:
        return [simulator.model(model, show) for model in work.models]


def _closed_forms(work: Work, mode: str, dataflow: str | None, files: Files, form: Format) -> None:
    if files.mapping or files.save_mapping or files.wants_timing:
        raise SpecError(f"--mode {mode} has no mapping, trace or plot: leave these options out")
    rows = closed_form_rows(work.models, work.description, mode, dataflow)
    print_as(form, rows, lambda: print_closed_forms(rows, mode, work.description.name))


def _write(files: Files, simulator: ArraySimulator, results: Sequence[SimulatedModel]) -> None:
    if files.save_mapping:
        from motet.targets.systolic.mappings.file import save_mappings

        save_mappings(files.save_mapping, simulator.mappings)
    if not files.wants_timing:
        return
    from motet.simulation_pictures import draw, write_trace

    if files.trace:
        write_trace(Path(files.trace), simulator)
    for plot in files.plots:
        draw(plot_kind(plot), Path(plot), simulator, results)
