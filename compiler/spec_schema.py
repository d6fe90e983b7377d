"""The specification's JSON Schema, for editors and for pipelines that write TOML.

``spec.schema.json`` beside this file is what ``schema_text`` gives; a test keeps
them equal. ``python -m motet.compiler.spec_schema`` prints it.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from motet.compiler.spec import NAME_PATTERN, BundleSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the TOML form of ``BundleSpec``."""
    (_,), definitions = msgspec.json.schema_components([BundleSpec], ref_template="#/$defs/{name}")
    definitions = {name: _without_null(schema) for name, schema in sorted(definitions.items())}
    bundle = definitions.pop("BundleSpec")
    bundle["properties"]["models"] = _keyed_by_name(bundle["properties"]["models"])
    del definitions["ModelSpec"]["properties"]["name"]
    _allow_items(definitions["ModelSpec"]["properties"]["shapes"]["additionalProperties"])
    return {
        "$schema": DIALECT,
        **bundle,
        "title": "Motet bundle specification",
        "$defs": definitions,
    }


def schema_text() -> str:
    """The schema as the text of ``spec.schema.json``."""
    return json.dumps(json_schema(), indent=2) + "\n"


def _keyed_by_name(array: dict[str, Any]) -> dict[str, Any]:
    """In TOML the models are tables under their names, where Python has a sequence."""
    return {
        "type": "object",
        "description": array["description"],
        "minProperties": 1,
        "propertyNames": {"pattern": NAME_PATTERN},
        "additionalProperties": array["items"],
    }


def _allow_items(shape: dict[str, Any]) -> None:
    """In TOML a sequence may have a list of shapes, which the structs keep item by item."""
    dimension = shape["items"]
    item = {"type": "array", "items": dimension}
    shape["items"] = {"anyOf": [*dimension["anyOf"], item]}


def _without_null(schema: Any) -> Any:
    """TOML has no null: an optional key is left out instead."""
    if isinstance(schema, list):
        return [_without_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _without_null(value) for key, value in schema.items()}
    if kept.get("default", ...) is None:
        del kept["default"]
    branches = [branch for branch in kept.get("anyOf", []) if branch != {"type": "null"}]
    if len(branches) == 1:
        del kept["anyOf"]
        kept.update(branches[0])
    elif branches:
        kept["anyOf"] = branches
    return kept


if __name__ == "__main__":
    print(schema_text(), end="")
