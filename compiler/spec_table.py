"""The TOML form of a specification, both ways: tables to structs, structs to text.

In TOML a model is a table keyed by its name (``[models.faces]``), so that a key
path such as ``models.faces.rate_hz`` says which model it means; in Python the
models are a sequence. That is the only difference between the two forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from motet.compiler.spec import BundleSpec, ModelName, ModelSpec, itemised
from motet.compiler.spec_checks import check_names
from motet.compiler.spec_keys import DEFAULT_SOURCE, Keys, check, toml_key, toml_string


def from_table(table: Mapping[str, Any], source: str = DEFAULT_SOURCE) -> BundleSpec:
    """The specification that ``table`` (as a TOML parser gives it) spells.

    Keys, types and single values are checked; what needs the whole specification or
    the file system is ``spec_checks.validate``'s. Raises ``SpecError`` at the first
    wrong key, with ``source`` in front.
    """
    keys = Keys(source)
    known = {**table, "models": _models(table.get("models", {}), keys.child("models"))}
    check(known, BundleSpec, keys)
    return msgspec.convert(known, BundleSpec)


def _models(tables: Any, keys: Keys) -> tuple[ModelSpec, ...]:
    if not isinstance(tables, dict):
        raise keys.error("expected one table per model, [models.NAME]")
    models = []
    for name, table in tables.items():
        place = keys.child(name)
        check(name, ModelName, place)
        if isinstance(table, dict) and isinstance(table.get("shapes"), dict):
            table = {**table, "shapes": itemised(table["shapes"])}
        check(table, ModelSpec, place, hidden=frozenset({"name"}))
        models.append(msgspec.convert({**table, "name": name}, ModelSpec))
    return tuple(models)


def to_table(spec: BundleSpec) -> dict[str, Any]:
    """``spec`` as plain tables in the TOML form; keys at their default are left out."""
    check_names(spec, Keys())
    table = _without_defaults(spec)
    table["models"] = {model.name: _without_defaults(model) for model in spec.models}
    for model in table["models"].values():
        del model["name"]
    return table


def _without_defaults(struct: msgspec.Struct) -> dict[str, Any]:
    table = {}
    for info in msgspec.structs.fields(struct):
        value = getattr(struct, info.name)
        if isinstance(value, msgspec.Struct):
            value = _without_defaults(value)
            if value:
                table[info.encode_name] = value
        elif info.required or value != _default(info):
            table[info.encode_name] = msgspec.to_builtins(value)
    return table


def _default(info: msgspec.structs.FieldInfo) -> Any:
    if info.default_factory is not msgspec.NODEFAULT:
        return info.default_factory()
    return info.default


def to_toml(spec: BundleSpec) -> str:
    """``spec`` as the text of a TOML file, keys at their default left out."""
    table = to_table(spec)
    models, passes = table.pop("models"), table.pop("passes", {})
    host = table.pop("host", None)
    blocks = [toml_lines(table)] if table else []
    blocks += [["[host]", *toml_lines(host)]] if host else []
    for group, tables in (("passes", passes), ("models", models)):
        blocks += [
            [f"[{group}.{toml_key(name)}]", *toml_lines(keys)] for name, keys in tables.items()
        ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def toml_lines(table: Mapping[str, Any]) -> list[str]:
    """A line for every key of a plain table, inner tables inline; what is None is left out."""
    return [
        f"{toml_key(key)} = {_toml_value(value)}"
        for key, value in table.items()
        if value is not None
    ]


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        return toml_string(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(toml_lines(value)) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return repr(value)
