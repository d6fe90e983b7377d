"""The command line: ``motet COMMAND``.

A mistake of the user's is one line on stderr and an exit code; a traceback is never
shown unless MOTET_TRACEBACK is set. stdout carries results only; progress, warnings
and errors go to stderr.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Any

import click

from motet.runtime.errors import MotetError
from motet.targets.quick_tvm import without_devices

COMMANDS = {
    "compile": "Compile ONNX models, or a specification, into a bundle.",
    "run": "Run models once, on given or random inputs.",
    "check": "Compare every output with onnxruntime's.",
    "bench": "Measure latency on this CPU: percentiles, or a profile.",
    "inspect": "Show what a bundle holds: models, memory, code, passes.",
    "simulate": "Cycles, bytes, energy on a simulated array; many runs too.",
    "explore": "Simulate models on many arrays; say which are worth it.",
    "schedule": "Find the operators of a model that may run side by side.",
    "timetable": "Fix when each model has which pods, over a hyperperiod.",
    "quantize": "Quantise an ONNX model to integers of 2 to 8 bits.",
    "merge": "Merge convolutions in a row of an ONNX model.",
    "fuse-depthwise": "Replace depthwise convolutions by rows and columns.",
    "targets": "List the arrays that --target knows by name.",
    "schema": "Print the JSON Schema of a bundle specification.",
    "cache": "Show what compiling and tuning kept; clear the kernels.",
    "tune": "Measure settings of kernels on this CPU; keep the fastest.",
    "demo": "Compile the example networks; run them on host and array.",
}
"""What each says of itself in its first line, so that ``motet --help`` imports none of them."""
INTERNAL_ERROR, INTERRUPTED = 70, 130


class _Lazy(click.Group):
    """Imports a command when it is called: ``motet --help`` stays quick."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        home = name.replace("-", "_")
        command = getattr(import_module(f"motet.commands.{home}"), home)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands and what they do, as click would write it after importing all."""
        limit = formatter.width - 6 - max(map(len, COMMANDS))
        texts = {name: click.Command(name, help=text) for name, text in COMMANDS.items()}
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(limit)) for name, command in texts.items()]
            )

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader who has seen enough (``| head``) is no failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would leave with 1
            _close_stdout()
            return 0


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="motet COMMAND --help shows examples.\n\n"
    "Exit codes: 0 done; 1 motet check found a difference; 2 wrong input; 3 something is not "
    "installed; 70 a defect of Motet; 130 interrupted. MOTET_TRACEBACK=1 shows tracebacks.",
)
@click.version_option(version("motet"), prog_name="motet")
def motet() -> None:
    """Compile several ONNX models into one bundle; run it on the host and a simulated array."""


def main() -> None:
    """The console script."""
    if sys.stdout is None or sys.stderr is None:
        _open_missing()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGINT, _interrupt)
    without_devices()
    code = _run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _close_stdout()
    except OSError as error:
        code = _report(f"error: cannot write the results: {error.strerror}", MotetError.exit_code)
        _close_stdout()
    sys.exit(code)


_interrupts: list[int] = []
"""Signals that asked the command to stop."""


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _interrupts.append(number)
    raise KeyboardInterrupt


def _run() -> int:
    """Run the command that the arguments ask for; its exit code."""
    try:
        result = motet.main(prog_name="motet", standalone_mode=False)
        # Without standalone mode click returns the code of an Exit.
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _report("interrupted", INTERRUPTED)
    except MotetError as error:
        return _report(f"error: {error}", error.exit_code)
    except OSError as error:
        return _report(f"error: {error}", MotetError.exit_code)
    except Exception as error:
        if _interrupts:  # TVM gives an interrupt that its passes saw another class
            return _report("interrupted", INTERRUPTED)
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        return _report(
            f"internal error: {why}\nThis is a defect of Motet; MOTET_TRACEBACK=1 shows where.",
            INTERNAL_ERROR,
        )


def _report(message: str, code: int) -> int:
    """Show ``message`` where no traceback is wanted; gives ``code`` back."""
    if os.environ.get("MOTET_TRACEBACK"):
        traceback.print_exc()
    click.echo(f"motet: {message}", err=True)
    return code


def _open_missing() -> None:
    """Python has no object for a stream that was closed before it began (``>&-``); what is
    written to it goes nowhere.
    """
    nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (to the end)
    sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere


def _close_stdout() -> None:
    """Nobody reads any more: let what is still buffered go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
