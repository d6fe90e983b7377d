"""Options that several commands share, and what they ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import wraps
from typing import Any

import click

from motet import api
from motet.console import print_csv, print_json, warn
from motet.opening import Accept, CompileRequest, open_or_compile
from motet.runtime.device import Array
from motet.runtime.session import ModelSession, Session
from motet.tensors import parse_all_inputs

Command = Callable[..., Any]

_TARGET = click.option(
    "--target", metavar="host|NAME|FILE.toml",
    help="host, a shipped array (motet targets lists them), or an array description.",
)  # fmt: skip
_ARRAY = click.option(
    "--target", metavar="NAME|FILE.toml|FILE.cfg",
    help="A shipped array (motet targets lists them), an array description, or a SCALE-Sim "
    "configuration; where absent a specification's own, or edge-64x64.",
)  # fmt: skip
_COMPILE_OPTIONS = (
    click.option(
        "--shape", "shapes", multiple=True, metavar="INPUT:1x3x224x224",
        help="Size of an input whose shape is open; MODEL.INPUT:... with several models.",
    ),
    click.option(
        "--value", "values", multiple=True, metavar="INPUT=1,2|@FILE.npy",
        help="Fix an input (axes, sizes, k) when compiling; MODEL.INPUT=... with several models.",
    ),
    click.option(
        "--operator-file", "operator_files", multiple=True, metavar="FILE.py",
        help="Python file that registers converters of your own operators (motet.operators).",
    ),
    click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE",
        help="Override a key of the specification, as models.faces.rate_hz=60.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class RunRequest:
    """What a command that runs models was asked: which file, models, inputs and threads."""

    file: str
    model: str | None
    inputs: tuple[str, ...]
    threads: int | None
    seed: int
    compiling: CompileRequest

    def load(self, accept: Accept | None = None) -> Session:
        """The file, compiled where it is no bundle; ``accept`` as in ``open_or_compile``."""
        bundle = open_or_compile(self.file, self.compiling, accept)
        return api.load(bundle, threads=self.threads)

    def models(self, session: Session) -> list[ModelSession]:
        """The model that was asked for, or all of them."""
        return [session[self.model]] if self.model is not None else list(session.values())

    def arrays(
        self, models: Sequence[ModelSession], run: int = 0, along_wires: bool = False
    ) -> dict[str, dict[str, Array]]:
        """Model -> input -> array; what is random differs from run to run.

        along_wires: without what a wire feeds, unless it was given.
        """
        return parse_all_inputs(models, self.inputs, self.seed + run, along_wires)


class Format(Enum):
    """How a command prints its results."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


model_option = click.option(
    "--model", metavar="NAME", help="One model of the bundle; all where absent."
)
onnx_option = click.option(
    "--onnx", multiple=True, metavar="MODEL=PATH",
    help="Where a model's ONNX file is now; PATH alone where there is one model.",
)  # fmt: skip
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON; its keys name their units."
)
csv_option = click.option(
    "--csv", "as_csv", is_flag=True, help="Print CSV; the header names the units."
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, 1024), help="Threads of the host kernels."
)
seed_option = click.option(
    "--seed", default=0, show_default=True, help="Seed of random inputs where none are given."
)
input_option = click.option(
    "--input", "inputs", multiple=True, metavar="NAME=@FILE",
    help=".npy or image file, or numbers (NAME=1,2,3); @FILE.npz gives several. "
    "With several models MODEL.NAME=@FILE. Random where absent.",
)  # fmt: skip


file_argument = click.argument("file", metavar="BUNDLE.motet | MODEL.onnx | SPEC.toml")

# Of commands that make one ONNX model of another.
model_argument = click.argument("file", metavar="MODEL.onnx")
shape_option = click.option(
    "--shape", "shapes", multiple=True, metavar="INPUT:1x3x224x224",
    help="Size of an input whose shape is open.",
)  # fmt: skip
evaluate_option = click.option(
    "--evaluate", metavar="METRIC.py|accuracy", help="What to measure, before and after."
)
apply_option = click.option(
    "--apply", "given", metavar="FILE.json", help="Decisions to apply instead."
)


def _with(command: Command, *options: Callable[[Command], Command]) -> Command:
    """``command`` with ``options``, which ``--help`` lists in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def compile_options(command: Command) -> Command:
    """The options that say what to compile; the command gets a ``CompileRequest`` first."""
    return _compile_options(command, _TARGET)


def array_options(command: Command) -> Command:
    """``compile_options`` of commands that only know arrays as targets."""
    return _compile_options(command, _ARRAY)


def _compile_options(command: Command, target_option: Callable[[Command], Command]) -> Command:
    @wraps(command)
    def gathered(
        target: str | None,
        shapes: tuple[str, ...],
        values: tuple[str, ...],
        operator_files: tuple[str, ...],
        settings: tuple[str, ...],
        **others: Any,
    ) -> Any:
        return command(CompileRequest(target, shapes, settings, values, operator_files), **others)

    return _with(gathered, target_option, *_COMPILE_OPTIONS)


def run_options(command: Command) -> Command:
    """All that says what to run on which inputs; the command gets a ``RunRequest`` first."""

    @wraps(command)
    def gathered(
        compiling: CompileRequest,
        file: str,
        model: str | None,
        inputs: tuple[str, ...],
        threads: int | None,
        seed: int,
        **others: Any,
    ) -> Any:
        request = RunRequest(file, model, inputs, threads, seed, compiling)
        return command(request, **others)

    with_last = compile_options(_with(gathered, threads_option, seed_option))
    return _with(with_last, file_argument, model_option, input_option)


def format_options(command: Command) -> Command:
    """``--json`` and ``--csv``, of which one may be given; the command gets ``form``."""

    @wraps(command)
    def gathered(*arguments: Any, as_json: bool, as_csv: bool, **others: Any) -> Any:
        if as_json and as_csv:
            raise click.UsageError("--json and --csv exclude each other")
        form = Format.JSON if as_json else Format.CSV if as_csv else Format.TABLE
        return command(*arguments, form=form, **others)

    return _with(gathered, json_option, csv_option)


def print_as(
    form: Format,
    facts: Sequence[Mapping[str, Any]],
    print_table: Callable[[], None],
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """``facts`` as JSON, ``rows`` (the facts where absent) as CSV, or what ``print_table`` does."""
    if form is Format.JSON:
        print_json(facts)
    elif form is Format.CSV:
        print_csv(facts if rows is None else rows)
    else:
        print_table()


def finite(context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """A callback for options: no infinity, and no NaN, which ranges let through."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no number of seconds.", context, option)
    return value


def tell_assumed(model: str, assumed: Mapping[str, tuple[int, ...]]) -> None:
    """Warn of inputs whose open sizes were taken as 1."""
    if assumed:
        shapes = ", ".join(f"{n}:{'x'.join(map(str, s))}" for n, s in assumed.items())
        warn(f"model {model!r}: open sizes are taken as 1 ({shapes}); --shape sets others")


def tell_decided(model: str, decided: Sequence[str]) -> None:
    """Warn of operators with sizes that only a run knows."""
    if decided:
        named = ", ".join(decided[:3]) + (f" and {len(decided) - 3} more" if decided[3:] else "")
        warn(f"model {model!r}: sizes that only a run knows count as 1 ({named})")
