"""What commands print: tables for people, JSON and CSV for pipes, progress on stderr."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

PIPE_WIDTH = 240
"""Columns where output is not a terminal: tables are not wrapped for a reader of lines."""


def output() -> Console:
    """The console for results; colours and terminal width only on a terminal."""
    return Console(
        width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, soft_wrap=False
    )


def messages() -> Console:
    """The console for progress, warnings and errors."""
    return Console(stderr=True, highlight=False)


def print_json(data: Any) -> None:
    """``data`` as JSON, one document."""
    json.dump(data, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as CSV with a header; the keys name their units."""
    if rows:
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table; columns whose name starts with ``>`` are right-aligned."""
    result = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        name = column.removeprefix(">")
        result.add_column(
            name, justify="right" if column.startswith(">") else "left", overflow="fold"
        )
    for row in rows:
        result.add_row(*row)
    return result


@contextmanager
def progress(title: str) -> Iterator[Any]:
    """A spinner with the current step and the time; nothing where stderr is no terminal.

    Yields a function that takes the line to show.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=messages(), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda line: bar.update(task, description=f"{title}: {line}")


def quantity(number: float, unit: str = "") -> str:
    """``12.3 k``, ``4.56 M`` and so on, three significant digits, with the unit."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= factor:
            return f"{number / factor:.3g} {prefix}{unit}".rstrip()
    return f"{number:.3g} {unit}".rstrip()


def seconds(value: float) -> str:
    """A time in the unit that reads best."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"
