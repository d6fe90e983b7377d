"""What commands print: tables for people, JSON and CSV for pipes, progress on stderr."""

from __future__ import annotations

import csv
import gc
import json
import math
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, NoReturn

import click
from rich.console import Console, Group
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from motet.runtime.progress import Show

PIPE_WIDTH = 65_536
"""Columns where output is not a terminal: a row stays one line for a reader of lines."""


class _Console(Console):
    """A console that leaves a closed pipe to ``cli.main``; names are never read as markup."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def output() -> Console:
    """The console for results; colours and terminal width only on a terminal."""
    return _Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def messages() -> Console:
    """The console for progress."""
    return _Console(stderr=True)


def warn(line: str) -> None:
    """One line on stderr."""
    click.echo(f"motet: warning: {line}", err=True)


def print_json(data: Any) -> None:
    """``data`` as JSON, one document; what JSON has no number for (NaN, infinity) is null."""
    click.echo(json.dumps(_finite(data), indent=2, allow_nan=False))


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return data


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as CSV with a header; the keys name their units."""
    if rows:
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Group:
    """A table under its title.

    Columns whose name starts with ``>`` hold numbers: right-aligned and never broken.
    """
    result = Table(show_edge=False, pad_edge=False)
    for column in columns:
        if column.startswith(">"):
            result.add_column(column[1:], justify="right", no_wrap=True)
        else:
            result.add_column(column, overflow="fold")
    for row in rows:
        result.add_row(*row)
    return Group(Text(title, "italic"), result) if title else Group(result)


_LINE_SECONDS = 5.0
"""Between lines where progress is lines."""


def _lines(title: str, total: int | None) -> Show:
    """Steps as lines on stderr: the first, the last, and one from time to time."""
    steps, shown = count(1), -math.inf

    def show(line: str) -> None:
        nonlocal shown
        step = next(steps)
        if time.monotonic() - shown >= _LINE_SECONDS or step == total:
            shown = time.monotonic()
            of = "" if total is None else f" {step} of {total},"
            click.echo(f"motet: {title}:{of} {line}", err=True)

    return show


@contextmanager
def progress(title: str, total: int | None = None, lines: bool = False) -> Iterator[Show]:
    """A bar of ``total`` steps, or a spinner, with the step and the time.

    Where stderr is no terminal nothing, or with ``lines`` a line now and then. Yields a function
    that takes the line to show.
    """
    columns: list[ProgressColumn] = [SpinnerColumn()]
    if total is not None:
        columns += [BarColumn(), MofNCompleteColumn()]
    columns += [TimeElapsedColumn(), TextColumn("{task.description}", markup=False)]
    console = messages()
    if lines and not console.is_terminal:
        yield _lines(title, total)
        return
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=False,
    ) as bar:
        task = bar.add_task(title, total=total)
        yield lambda line: bar.update(task, advance=1, description=f"{title}: {line}")


_TVM_WARNING = re.compile(rb"\[\d\d:\d\d:\d\d\] /\S+:\d+: Warning: .*")


@contextmanager
def without_tvm_warnings() -> Iterator[None]:
    """Keep the warnings that TVM's C++ writes to file descriptor 2 from the user.

    They speak of TVM's insides, mostly of objects that an error left half-made.
    Other lines come out at the end; Python's own stderr stays as it is. With
    MOTET_TRACEBACK set nothing is held back.
    """
    if os.environ.get("MOTET_TRACEBACK") or sys.stderr is None:
        yield
        return
    sys.stderr.flush()
    python = sys.stderr
    with tempfile.TemporaryFile() as held, os.fdopen(os.dup(2), "w", buffering=1) as stderr:
        os.dup2(held.fileno(), 2)
        if _is_descriptor_2(python):
            sys.stderr = stderr
        try:
            yield
        except Exception as error:
            _let_go(error)
            raise
        finally:
            sys.stderr = python
            os.dup2(stderr.fileno(), 2)
            held.seek(0)
            os.write(2, b"".join(line for line in held if not _TVM_WARNING.match(line)))


def _is_descriptor_2(stream: Any) -> bool:
    try:
        return bool(stream.fileno() == 2)
    except (AttributeError, OSError, ValueError):
        return False


def _let_go(error: BaseException | None) -> None:
    """Drop what the frames of ``error`` and its causes hold: it warns when it goes."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()


_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SMALL = ((1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"), (1e-12, "p"))


def quantity(number: float, unit: str = "") -> str:
    """``12.3 k``, ``4.56 MB``, ``118 uJ`` and so on, three significant digits, with the unit.

    What has no unit is a count, which is never below one; less than a pico is in picos.
    """
    prefixes = (*_LARGE, *_SMALL) if unit and number else _LARGE
    for factor, prefix in prefixes:
        if abs(number) >= 0.9995 * factor:
            return f"{_three_digits(number / factor)} {prefix}{unit}".rstrip()
    if not number or not unit:
        return f"{_three_digits(number)} {unit}".rstrip()
    return f"{_three_digits(number / 1e-12)} p{unit}"


def seconds(value: float) -> str:
    """A time in the unit that reads best, three significant digits."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= 0.9995 * factor:
            return f"{_three_digits(value / factor)} {unit}"
    return f"{_three_digits(value / 1e-9)} ns"


def _three_digits(number: float) -> str:
    """Three significant digits, more before the point where there are more; no exponent."""
    return f"{number:.3g}" if abs(number) < 999.5 else f"{number:.0f}"
