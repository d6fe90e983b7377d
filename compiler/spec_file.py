"""Where specifications come from: a TOML file, overrides of its keys, or just models."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from motet.compiler.spec import BundleSpec, ModelSpec, name_from_path
from motet.compiler.spec_checks import validate
from motet.compiler.spec_keys import DEFAULT_SOURCE, Keys, suggestion
from motet.compiler.spec_table import from_table, to_table
from motet.runtime.errors import SpecError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def load_spec(path: str | os.PathLike[str], assignments: Sequence[str] = ()) -> BundleSpec:
    """Read, override and validate the specification in the TOML file ``path``.

    Paths in the file are relative to its directory, those in ``assignments`` (see
    ``override``) to the current one; the result's paths work from the current one.
    Raises ``SpecError`` with the file and the key.
    """
    file = Path(path)
    table = _resolved(_read(file), file.parent)
    spec = from_table(override(table, assignments), _source(str(path), assignments))
    validate(spec, _source(str(path), assignments), file.parent)
    return spec


def spec_from_models(
    paths: Sequence[str | os.PathLike[str]],
    target: str = "host",
    shapes: Mapping[str, Sequence[int | str]] | None = None,
) -> BundleSpec:
    """The validated specification of ``motet compile A.onnx B.onnx``.

    Names come from the files, that of the bundle too where there is one (never from the
    output: the same models give the same bytes wherever they go). A name that is taken
    gets the first free suffix ``_2``, ``_3``... ``shapes`` maps an input to its shape;
    where there are several models, its keys are ``model.input``.
    """
    if isinstance(paths, str):
        raise SpecError(f'paths: expected a list of ONNX files, got the string "{paths}"')
    names = _distinct_names([os.fspath(path) for path in paths])
    per_model = _shapes_per_model(shapes or {}, names)
    models = [
        ModelSpec(path=os.fspath(path), name=name, shapes=per_model[name])
        for path, name in zip(paths, names, strict=True)
    ]
    name = names[0] if len(names) == 1 else "bundle"
    spec = BundleSpec(name=name, models=tuple(models), target=target)
    validate(spec)
    return spec


@overload
def override(spec: BundleSpec, assignments: Sequence[str]) -> BundleSpec: ...
@overload
def override(spec: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]: ...
def override(
    spec: BundleSpec | Mapping[str, Any], assignments: Sequence[str]
) -> BundleSpec | dict[str, Any]:
    """``spec`` (or its TOML tables) with each ``key.path=value`` of ``assignments`` set.

    A value is TOML (``60``, ``true``, ``[1, 3]``, ``{ input = [1, 3] }``) or, where it
    does not parse as such, a string. Keys and types of the result are checked for a
    ``BundleSpec``; ``validate`` is left to the caller. Raises ``SpecError``.
    """
    if isinstance(spec, BundleSpec):
        table = override(to_table(spec), assignments)
        return from_table(table, _source(DEFAULT_SOURCE, assignments))
    table = copy.deepcopy(dict(spec))
    for assignment in assignments:
        _assign(table, assignment)
    return table


def _source(name: str, assignments: Sequence[str]) -> str:
    return " --set ".join([name, *assignments])


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise SpecError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{file}: not valid TOML: not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise SpecError(f"{file}: not valid TOML: nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError (says line and column), or too many digits
        raise SpecError(f"{file}: not valid TOML: {error}") from error


def _resolved(table: dict[str, Any], base: Path) -> dict[str, Any]:
    """``table`` with its paths joined to ``base``; wrong types are left for the checks."""
    models = table.get("models")
    for model in models.values() if isinstance(models, dict) else ():
        if not isinstance(model, dict):
            continue
        if isinstance(path := model.get("path"), str) and path:
            model["path"] = str(base / path)
        values = model.get("values")
        if isinstance(values, dict):
            model["values"] = {name: _beside(value, base) for name, value in values.items()}
    operators = table.get("operators")
    if isinstance(operators, list):
        table["operators"] = [str(base / o) if isinstance(o, str) and o else o for o in operators]
    target = table.get("target")
    if isinstance(target, str) and target.endswith(".toml"):
        table["target"] = str(base / target)
    passes = table.get("passes")
    for options in passes.values() if isinstance(passes, dict) else ():
        for key in ("decisions", "file") if isinstance(options, dict) else ():
            if isinstance(file := options.get(key), str) and file:
                options[key] = str(base / file)
    return table


def _beside(value: Any, base: Path) -> Any:
    """``@FILE`` with its path joined to ``base``; any other value as it is."""
    is_file = isinstance(value, str) and value.startswith("@")
    return f"@{base / value[1:]}" if is_file else value


def _distinct_names(paths: Sequence[str]) -> list[str]:
    names: list[str] = []
    for name in map(name_from_path, paths):
        candidate, number = name, 1
        while candidate in names:
            number += 1
            candidate = f"{name}_{number}"
        names.append(candidate)
    return names


def _shapes_per_model(
    shapes: Mapping[str, Sequence[int | str]], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The shapes of each model; single shapes are left for ``validate`` to judge."""
    per_model: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, dims in shapes.items():
        model, tensor = model_and_input(key, names)
        per_model[model][tensor] = list(dims) if isinstance(dims, (list, tuple)) else dims
    return per_model


def model_and_input(key: str, names: Sequence[str]) -> tuple[str, str]:
    """What ``model.input`` names; where ``names`` holds one model, the key is the input alone.

    Raises ``SpecError`` where ``key`` names no model of several.
    """
    model, _, tensor = (names[0], "", key) if len(names) == 1 else key.partition(".")
    if model not in names or not tensor:
        raise SpecError(
            f'shape of "{key}": with several models the input is written MODEL.INPUT,'
            f" MODEL one of {', '.join(names)}"
        )
    return model, tensor


def _assign(table: dict[str, Any], assignment: str) -> None:
    keys = Keys(f"--set {assignment}")
    path, value = _parse(assignment, keys)
    _refuse_new_model(table, path, keys)
    for key in path[:-1]:
        keys = keys.child(key)
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise keys.error("this key holds a value, not a table of keys")
    table[path[-1]] = value


def _parse(assignment: str, keys: Keys) -> tuple[list[str], Any]:
    """Key path and value of ``a.b=value``; a quoted key may itself hold ``=``."""
    at = assignment.find("=")
    while at >= 0:
        path = _key_path(assignment[:at])
        value = assignment[at + 1 :].strip()
        if path and value:
            return path, _value(value, keys)
        at = assignment.find("=", at + 1)
    raise keys.error('expected KEY.PATH=VALUE, as in models.faces.rate_hz=60 (name="" is empty)')


def _key_path(text: str) -> list[str]:
    """The keys of a dotted TOML key; empty where ``text`` is none."""
    try:
        node: Any = tomllib.loads(f"{text} = 0")
    except ValueError:
        return []
    path = []
    while isinstance(node, dict):
        if len(node) != 1:
            return []
        [(key, node)] = node.items()
        path.append(key)
    return path


def _value(text: str, keys: Keys) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError) as error:
        if text[0] in "[{\"'":
            raise keys.error(f"the value is not valid TOML: {error}") from error
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _refuse_new_model(table: Mapping[str, Any], path: Sequence[str], keys: Keys) -> None:
    """A misspelt model must not read as a new one; ``models.NAME.path`` does add one."""
    models = table.get("models", {})
    adds = path[0] != "models" or len(path) < 3 or path[2] == "path"
    if not adds and isinstance(models, dict) and path[1] not in models:
        raise (
            keys.child("models")
            .child(path[1])
            .error(f"no such model{suggestion(path[1], models)}; models: {', '.join(models)}")
        )
