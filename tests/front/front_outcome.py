"""What a command left behind, and how tests read it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """Exit code and text of a command."""

    code: int
    out: str
    err: str


Motet = Callable[..., Outcome]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def assert_plain(text: str) -> None:
    """No colours, no control characters, every row of a table on a line of its own."""
    assert text
    assert "\x1b" not in text
    assert "\r" not in text
    tables = [line for line in text.splitlines() if "│" in line]
    headers = [line for line in text.splitlines() if "┃" in line]
    assert {line.count("│") for line in tables} <= {line.count("┃") for line in headers}
