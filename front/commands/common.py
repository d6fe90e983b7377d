"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from motet.opening import CompileRequest
from motet.runtime.session import ModelSession, Session

Command = Callable[..., Any]

_COMPILE_OPTIONS = (
    click.option(
        "--target", metavar="host|NAME|FILE.toml",
        help="host, a shipped array (motet targets lists them), or an array description.",
    ),
    click.option(
        "--shape", "shapes", multiple=True, metavar="INPUT:1x3x224x224",
        help="Size of an input whose shape is open; MODEL.INPUT:... with several models.",
    ),
    click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE",
        help="Override a key of the specification, as models.faces.rate_hz=60.",
    ),
)  # fmt: skip


def compile_options(command: Command) -> Command:
    """``--target``, ``--shape`` and ``--set``, for commands that may have to compile."""
    for option in reversed(_COMPILE_OPTIONS):
        command = option(command)
    return command


def request_of(
    target: str | None, shapes: tuple[str, ...], settings: tuple[str, ...]
) -> CompileRequest:
    """The compile request of these options."""
    return CompileRequest(target, shapes, settings)


model_option = click.option(
    "--model", metavar="NAME", help="One model of the bundle; all where absent."
)
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


def one_format(as_json: bool, as_csv: bool) -> None:
    """Refuse ``--json`` together with ``--csv``."""
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")


def chosen(session: Session, model: str | None) -> list[ModelSession]:
    """The model that was asked for, or all of them."""
    return [session[model]] if model is not None else list(session.values())
