"""A description with some keys changed, by dotted paths: what sweeps and ``--set`` are made of.

A path is one of the file (``dram.channels``, ``pods[0].rows``), or a key of ``[[pods]]`` alone
(``rows``, ``scratchpad.bytes``), which then holds for every kind of pod; ``pods`` with a number
is every kind's ``count``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from motet.runtime.errors import SpecError
from motet.targets.systolic.architecture import ArrayDescription, Pod
from motet.targets.systolic.architecture_file import checked, to_json
from motet.targets.systolic.architecture_values import nearest

_PART = re.compile(r"([A-Za-z0-9_]+)(?:\[(\d+)\])?")
_TOP = tuple(info.name for info in msgspec.structs.fields(ArrayDescription))
_POD = tuple(info.name for info in msgspec.structs.fields(Pod))


def with_settings(description: ArrayDescription, settings: Mapping[str, Any]) -> ArrayDescription:
    """``description`` with the value of each path replaced, and checked again.

    Settings are applied together: a larger array may come with the memory that it needs.

    Raises
    ------
    SpecError: a path that there is not, or a value that breaks a rule.
    """
    tables = msgspec.json.decode(to_json(description))
    for path, value in settings.items():
        for full in _full_paths(path, value, len(description.pods)):
            _set(tables, full, value)
    return checked(tables, description.name)


def _full_paths(path: str, value: Any, kinds: int) -> list[str]:
    if path == "pods" and isinstance(value, int):
        return [f"pods[{kind}].count" for kind in range(kinds)]
    first = path.split(".")[0].split("[")[0]
    if first in _TOP:
        return [path]
    if first in _POD:
        return [f"pods[{kind}].{path}" for kind in range(kinds)]
    raise SpecError(
        f"{path}: an array description has no such key{nearest(first, _TOP + _POD)}; it has "
        f"{', '.join(_TOP)}, and for its pods {', '.join(_POD)}"
    )


def _set(tables: Any, path: str, value: Any) -> None:
    keys: list[str | int] = []
    for part in path.split("."):
        found = _PART.fullmatch(part)
        if found is None:
            raise SpecError(f"{path}: not a path of keys, such as pods[0].scratchpad.bytes")
        keys += [found[1]] if found[2] is None else [found[1], int(found[2])]
    *outer, last = keys
    here = tables
    for key in outer:
        _check_key(here, key, path)
        here = here[key]
    if isinstance(here, dict) and isinstance(last, str):
        here[last] = value
        return
    _check_key(here, last, path)
    here[last] = value


def _check_key(here: Any, key: str | int, path: str) -> None:
    if isinstance(here, list) and isinstance(key, int):
        if key >= len(here):
            raise SpecError(f"{path}: there are {len(here)}, numbered from 0")
    elif not isinstance(here, dict) or here.get(str(key)) is None:
        raise SpecError(f"{path}: there is no {key!r} in this description")
