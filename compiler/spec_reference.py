"""The keys of a specification as Markdown tables, made from the structs that define them.

``python -m motet.compiler.spec_reference`` prints them; docs/SPECIFICATION.md holds
them, and a test keeps the two equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from motet.compiler.spec import BundleSpec, ModelSpec
from motet.compiler.spec_keys import describe

_HEAD = "| key | value | default | meaning |\n|---|---|---|---|"


def tables() -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """Header and struct of each TOML table; ``""`` for the keys above the first header."""
    return _tables("", BundleSpec)


def _tables(path: str, struct: type[msgspec.Struct]) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    yield path, struct
    for info in msgspec.structs.fields(struct):
        inner = _inner_struct(info.type)
        if inner is not None:
            is_keyed = inner is ModelSpec or _is_mapping(info.type)
            name = f"{info.name}.NAME" if is_keyed else info.name
            yield from _tables(f"{path}.{name}".lstrip("."), inner)


def _is_mapping(annotation: Any) -> bool:
    """Whether a key's table has tables by name."""
    return dict in (get_origin(annotation), *map(get_origin, get_args(annotation)[:1]))


def _inner_struct(annotation: Any) -> type[msgspec.Struct] | None:
    """The struct of a table's key, or of each table of a key; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    structs = map(_inner_struct, get_args(annotation))
    return next((struct for struct in structs if struct is not None), None)


def keys_of(struct: type[msgspec.Struct]) -> list[msgspec.structs.FieldInfo]:
    """The keys of the struct's own table: a model's name stands in its header instead."""
    return [
        info
        for info in msgspec.structs.fields(struct)
        if _inner_struct(info.type) is None and (struct, info.name) != (ModelSpec, "name")
    ]


def reference() -> str:
    """All tables, each under its header."""
    parts = []
    for path, struct in tables():
        rows = [_row(struct, info) for info in keys_of(struct)]
        if rows:
            title = f"### `[{path}]`" if path else "### Above the first table"
            parts += [title, str(struct.__doc__), "\n".join([_HEAD, *rows])]
    return "\n\n".join(parts) + "\n"


def _row(struct: type[msgspec.Struct], info: msgspec.structs.FieldInfo) -> str:
    annotation = get_type_hints(struct, include_extras=True)[info.name]
    metas = [meta for meta in get_args(annotation) if isinstance(meta, msgspec.Meta)]
    meaning = next(meta.description for meta in metas if meta.description)
    value = re.sub(r"matching (\S+)", r"matching `\1`", describe(annotation))
    value = re.sub(r'("[^"]+")', r"`\1`", value)
    return f"| `{info.name}` | {value} | {_default(info)} | {meaning} |"


def _default(info: msgspec.structs.FieldInfo) -> str:
    if info.required:
        return "required"
    if info.default_factory is not msgspec.NODEFAULT or info.default in (None, ()):
        return "absent"
    return f"`{json.dumps(info.default)}`"


if __name__ == "__main__":
    print(reference(), end="")
