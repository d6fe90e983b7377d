"""Plain values (of TOML or JSON) into a description's structs, with errors in plain words.

The structs' annotations say what is allowed. A wrong value is refused with the dotted path of
its key, such as ``pods[0].scratchpad.bytes``, what it was, and what is allowed; an unknown key
with the nearest one that there is.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from motet.runtime.errors import SpecError

ALIASES = {
    "ws": "weight-stationary",
    "os": "output-stationary",
    "is": "input-stationary",
}
"""Short names that people write, for the nearest known one."""
S = TypeVar("S", bound=msgspec.Struct)


def read_struct(struct: type[S], value: Any, path: str, where: str) -> S:
    """``value``, a table, as a ``struct``.

    ``path`` is the table's dotted key, empty for the file itself; ``where`` names the file.
    Raises ``SpecError``.
    """
    if not isinstance(value, dict):
        keys = ", ".join(info.name for info in msgspec.structs.fields(struct))
        raise wrong(where, path, value, f"must be a table with the keys {keys}")
    fields = {info.name: info for info in msgspec.structs.fields(struct)}
    _refuse_unknown(value, fields, path, where)
    hints = hints_of(struct)
    missing = [name for name, info in fields.items() if info.required and name not in value]
    if missing:
        raise SpecError(f"{where}: {_missing(missing, path)}; add {_hint(hints[missing[0]])}")
    given = {name: _read(hints[name], value[name], joined(path, name), where) for name in value}
    return struct(**given)


@cache
def hints_of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Key -> annotation, with its ``Meta``."""
    return get_type_hints(struct, include_extras=True)


def joined(path: str, key: str) -> str:
    """The dotted path of ``key`` in the table at ``path``."""
    return f"{path}.{key}" if path else key


def wrong(where: str, path: str, value: Any, rule: str) -> SpecError:
    """The error for a value that breaks ``rule``."""
    return SpecError(f"{where}: {path or 'the description'} = {_shown(value)}: {rule}")


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean "..."?`` where some known name is near, else nothing."""
    choices = list(known)
    if ALIASES.get(name.lower()) in choices:
        return f"; did you mean {ALIASES[name.lower()]}?"
    found = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    found = found or [choice for choice in choices if len(name) > 1 and name in choice]
    return f"; did you mean {found[0]}?" if found else ""


def plain_type(annotation: Any) -> tuple[Any, list[msgspec.Meta]]:
    """The type without its annotations and ``None``, and the annotations, outermost first."""
    metas: list[msgspec.Meta] = []
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *extra = get_args(annotation)
            metas += [meta for meta in extra if isinstance(meta, msgspec.Meta)]
        elif get_origin(annotation) in (Union, UnionType):
            annotation = next(x for x in get_args(annotation) if x is not NoneType)
        else:
            return annotation, metas


def allowed(annotation: Any) -> str:
    """What a key may hold, in words: ``integer, 1 to 4,096``."""
    kind, metas = plain_type(annotation)
    origin = get_origin(kind)
    if origin is Literal:
        return "one of " + ", ".join(get_args(kind))
    if origin is tuple:
        inner = get_args(kind)[0]
        if _is_struct(inner):
            return "a list of one or more tables"
        return f"a list of {', '.join(get_args(inner))}, each at most once"
    if origin is dict:
        keys = ", ".join(get_args(get_args(kind)[0]))
        return f"a table of figures with the keys {keys}"
    if _is_struct(kind):
        return "a table"
    if kind is str:
        return "a string, not empty"
    return f"{'an integer' if kind is int else 'a number'} from {_range(metas)}"


def bounds(metas: list[msgspec.Meta]) -> tuple[float, float]:
    """The least and the largest value that the annotations allow."""
    low = next(meta.ge for meta in metas if meta.ge is not None)
    high = next(meta.le for meta in metas if meta.le is not None)
    return low, high


def _range(metas: list[msgspec.Meta]) -> str:
    low, high = (f"{x:,}" if isinstance(x, int) else f"{x:g}" for x in bounds(metas))
    return f"{low} to {high}"


def _read(annotation: Any, value: Any, path: str, where: str) -> Any:
    kind, metas = plain_type(annotation)
    if value is None and NoneType in get_args(_unannotated(annotation)):
        return None
    if _is_struct(kind):
        return read_struct(kind, value, path, where)
    if get_origin(kind) is tuple:
        return _read_list(get_args(kind)[0], value, path, where)
    if get_origin(kind) is dict:
        return _read_table(get_args(kind), value, path, where)
    if get_origin(kind) is Literal:
        return _read_choice(get_args(kind), value, path, where)
    if kind is str:
        if not isinstance(value, str) or not value.strip():
            raise wrong(where, path, value, "must be a string, not empty")
        return value
    return _read_number(kind, metas, value, path, where)


def _read_number(kind: Any, metas: list[msgspec.Meta], value: Any, path: str, where: str) -> Any:
    low, high = bounds(metas)
    unit = next((f" {meta.extra['unit']}" for meta in metas if meta.extra), "")
    rule = f"must be {'an integer' if kind is int else 'a number'} from {_range(metas)}{unit}"
    right = isinstance(value, int) or (kind is float and isinstance(value, float))
    if isinstance(value, bool) or not right:
        if kind is int and isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            rule += f"; write it without a point or exponent: {int(value):_}"
        raise wrong(where, path, value, rule)
    if not low <= value <= high:
        raise wrong(where, path, value, rule)
    return kind(value)


def _read_choice(choices: tuple[str, ...], value: Any, path: str, where: str) -> str:
    if isinstance(value, str) and value in choices:
        return value
    hint = nearest(value, choices) if isinstance(value, str) else ""
    raise wrong(where, path, value, f"must be one of {', '.join(choices)}{hint}")


def _read_list(inner: Any, value: Any, path: str, where: str) -> tuple[Any, ...]:
    kind = "table" if _is_struct(inner) else "value"
    if not isinstance(value, (list, tuple)) or not value:
        write = f"; write [[{path}]] over it" if isinstance(value, dict) else ""
        raise wrong(where, path, value, f"must be a list of at least one {kind}{write}")
    items = tuple(_read(inner, item, f"{path}[{i}]", where) for i, item in enumerate(value))
    if not _is_struct(inner) and len(set(items)) < len(items):
        raise wrong(where, path, value, "names something twice; name each once")
    return items


def _read_table(types: tuple[Any, Any], value: Any, path: str, where: str) -> dict[str, Any]:
    known = get_args(types[0])
    if not isinstance(value, dict):
        raise wrong(where, path, value, f"must be a table with keys of {', '.join(known)}")
    _refuse_unknown(value, known, path, where)
    return {key: _read(types[1], value[key], joined(path, key), where) for key in value}


def _refuse_unknown(value: dict[str, Any], known: Iterable[str], path: str, where: str) -> None:
    for key in value:
        if key not in known:
            raise SpecError(
                f"{where}: {joined(path, str(key))}: there is no such key"
                f"{nearest(str(key), known)}; allowed here: {', '.join(known)}"
            )


def _missing(names: list[str], path: str) -> str:
    paths = [joined(path, name) for name in names]
    return f"{', '.join(paths)}: missing" if len(paths) > 1 else f"{paths[0]} is missing"


def _hint(annotation: Any) -> str:
    description = next((m.description for m in plain_type(annotation)[1] if m.description), None)
    return f"{allowed(annotation)} ({description})" if description else allowed(annotation)


def _unannotated(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _shown(value: Any) -> str:
    """A value as TOML writes it, cut where it is long; of tables only that they are some."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "a list of tables"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
