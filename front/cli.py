"""The command line: ``motet COMMAND``.

A mistake of the user's is one line on stderr and an exit code; a traceback is never
shown unless MOTET_TRACEBACK is set. Exit codes: 0 done, 1 a check failed, 2 wrong
input, 3 something is not installed, 70 a defect of Motet, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import version

import click

from motet.runtime.errors import MotetError

COMMANDS = ("compile", "run", "check", "inspect", "simulate", "demo", "schema")
INTERNAL_ERROR, INTERRUPTED = 70, 130


class _Lazy(click.Group):
    """Imports a command when it is called: ``motet --help`` stays quick."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = import_module(f"motet.commands.{name}")
        command = getattr(module, name)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="motet COMMAND --help shows examples.",
)
@click.version_option(version("motet"), prog_name="motet")
def motet() -> None:
    """Compile several ONNX models into one bundle; run it on the host and a simulated array."""


def main() -> None:
    """The console script."""
    try:
        motet.main(prog_name="motet", standalone_mode=False)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except MotetError as error:
        _fail(f"error: {error}", error.exit_code)
    except Exception as error:
        if os.environ.get("MOTET_TRACEBACK"):
            raise
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        _fail(
            f"internal error: {why}\nThis is a defect of Motet; MOTET_TRACEBACK=1 shows where.",
            INTERNAL_ERROR,
        )


def _fail(message: str, code: int) -> None:
    if os.environ.get("MOTET_TRACEBACK"):
        raise
    click.echo(f"motet: {message}", err=True)
    sys.exit(code)
