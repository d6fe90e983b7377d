"""Mappings in a TOML file: saved, edited, and read back as constraints.

A table per step, keyed by its name, holds fields of ``Mapping``; fields that it leaves out are
searched. The table ``["*"]`` holds for every step, a step's own table wins::

    ["*"]
    dataflow = "output-stationary"

    ["conv1+relu1"]
    tile_rows = 112
    input_slots = 4
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from collections.abc import Mapping as Dict
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from motet.runtime.errors import SpecError
from motet.targets.systolic.architecture import DataflowName
from motet.targets.systolic.architecture_values import nearest
from motet.targets.systolic.mappings.mapping import Mapping, Split

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10
    import tomli as tomllib

Constraints = Dict[str, Dict[str, Any]]
"""By step name, or "*" for all: fields of ``Mapping`` with the value that they must have."""

EVERY_STEP = "*"
FIELDS = tuple(field.name for field in fields(Mapping))
_CHOICES = {"dataflow": get_args(DataflowName), "split": get_args(Split)}
_BOOLEANS = ("rows_outermost",)
_MOST = 2**31 - 1


def save_mappings(path: str | Path, mappings: Dict[str, Mapping]) -> None:
    """Write all fields of every step's mapping; ``load_mappings`` reads them back equal.

    The file is written whole or not at all; raises ``SpecError`` where it cannot be written.
    """
    lines = ["# Mappings by step: delete lines to have them searched again."]
    for name, mapping in mappings.items():
        lines += ["", f"[{_quoted(name)}]"]
        lines += [f"{field} = {_text(getattr(mapping, field))}" for field in FIELDS]
    made, target = "\n".join(lines) + "\n", Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        beside.write_text(made, encoding="utf-8")
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise SpecError(f"{path}: cannot write this mapping file: {error}") from error


def load_mappings(path: str | Path, steps: Iterable[str] | None = None) -> Constraints:
    """The constraints that a file holds, checked.

    Parameters
    ----------
    steps: names of the workload's steps; a table for any other is then an error.

    Raises
    ------
    SpecError: names the file, the layer and the key, and what is allowed.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot read this mapping file: {error}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SpecError(f"{path}: not TOML: {error}") from error
    known = None if steps is None else (EVERY_STEP, *steps)
    for name, table in content.items():
        _check_table(str(path), name, table, known)
    return content


def constraints_of(constraints: Constraints | None, step: str) -> dict[str, Any]:
    """What is given for one step."""
    given = constraints or {}
    return {**given.get(EVERY_STEP, {}), **given.get(step, {})}


def _check_table(path: str, name: str, table: Any, known: tuple[str, ...] | None) -> None:
    if known is not None and name not in known:
        raise SpecError(
            f"{path}: no step is called {name!r}{nearest(name, known)}; a table's name is a "
            'step\'s name in quotes, or "*" for every step'
        )
    if not isinstance(table, dict):
        raise SpecError(f'{path}: {name!r} must be a table, as in ["{name}"], not {table!r}')
    for key, value in table.items():
        if key not in FIELDS:
            raise SpecError(
                f"{path}: [{name!r}] has unknown key {key!r}{nearest(key, FIELDS)}; "
                f"allowed: {', '.join(FIELDS)}"
            )
        allowed = _refusal(key, value)
        if allowed:
            raise SpecError(f"{path}: [{name!r}] {key} = {value!r}: must be {allowed}")


def _refusal(key: str, value: Any) -> str:
    """What ``key`` may be, where ``value`` is something else."""
    if key in _CHOICES:
        return "" if value in _CHOICES[key] else f"one of {', '.join(_CHOICES[key])}"
    if key in _BOOLEANS:
        return "" if isinstance(value, bool) else "true or false"
    least = 0 if key == "first_pod" else 1
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return "" if is_number and least <= value <= _MOST else f"an integer from {least} on"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _quoted(str(value))


def _quoted(text: str) -> str:
    """A TOML basic string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
