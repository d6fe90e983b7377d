"""Array descriptions from shipped names, TOML files and stored JSON.

``architectures/`` holds those that are shipped; a user writes another file and names its path.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from motet.runtime.errors import SpecError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.architecture_checks import check
from motet.targets.systolic.architecture_values import nearest, read_struct

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10
    import tomli as tomllib


def shipped_architectures() -> tuple[str, ...]:
    """Names that ``load_architecture`` takes without a file, sorted."""
    return tuple(sorted(_shipped()))


def load_architecture(name_or_path: str | Path) -> ArrayDescription:
    """The description of a shipped name, or of a ``.toml`` file, checked.

    Raises
    ------
    SpecError: an unknown name, an unreadable file, or a wrong key or value; the message names
        the file, the key, the value, what is allowed and the remedy.
    """
    text = str(name_or_path)
    if text in _shipped():
        return parse_architecture(_shipped()[text], f"array description {text!r}")
    if not text.endswith(".toml"):
        raise SpecError(
            f"unknown array description {text!r}{nearest(text, _shipped())}; give a .toml file or "
            f"one of {', '.join(shipped_architectures())}"
        )
    try:
        content = Path(text).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SpecError(f"{text}: cannot read this array description: {error}") from error
    return parse_architecture(content, text)


def parse_architecture(content: str, where: str) -> ArrayDescription:
    """The description that TOML text holds, checked; ``where`` names it in errors."""
    try:
        value = tomllib.loads(content)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SpecError(f"{where}: not TOML: {error}") from error
    return checked(value, where)


def checked(value: Any, where: str) -> ArrayDescription:
    """The description of plain tables (of TOML or JSON), with all checks; raises ``SpecError``."""
    description = read_struct(ArrayDescription, value, "", where)
    check(description, where)
    return description


def to_json(description: ArrayDescription) -> bytes:
    """``description`` as JSON, the same bytes for equal descriptions."""
    return msgspec.json.encode(description, order="sorted")


def from_json(data: bytes, where: str = "stored array description") -> ArrayDescription:
    """The inverse of ``to_json``, with all checks; raises ``SpecError``."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SpecError(f"{where}: not JSON: {error}") from error
    return checked(value, where)


@cache
def _shipped() -> dict[str, str]:
    folder = resources.files("motet.targets.systolic.architectures")
    files = [item for item in folder.iterdir() if item.name.endswith(".toml")]
    return {item.name[: -len(".toml")]: item.read_text(encoding="utf-8") for item in files}
