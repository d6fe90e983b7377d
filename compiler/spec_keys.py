"""Checks a table against a struct, key by key, and says what each key allows.

``msgspec.convert`` alone would do the conversion, but its messages leave out the
keys of tables (``$.shapes[...]``), so a problem is looked for here, at the deepest
key, and told in TOML's spelling and TOML's words.
"""

from __future__ import annotations

import difflib
import functools
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect

from motet.runtime.errors import SpecError

DEFAULT_SOURCE = "bundle specification"


@dataclass(frozen=True)
class Keys:
    """A place in a specification: the file (or another source) and the keys down to it."""

    source: str = DEFAULT_SOURCE
    path: str = ""

    def child(self, key: object) -> Keys:
        """The place of ``key`` in the table here."""
        spelled = toml_key(key) if isinstance(key, str) else repr(key)
        return Keys(self.source, f"{self.path}.{spelled}" if self.path else spelled)

    def item(self, index: int) -> Keys:
        """The place of element ``index`` in the array here."""
        return Keys(self.source, f"{self.path}[{index}]")

    def error(self, problem: str) -> SpecError:
        """``problem`` as an error at this place."""
        return SpecError(": ".join(part for part in (self.source, self.path, problem) if part))


def toml_key(key: str) -> str:
    """``key`` as TOML spells it: bare where it can be, quoted where it must be."""
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else toml_string(key)


def toml_string(text: str) -> str:
    """``text`` as a TOML basic string; JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def suggestion(word: str, known: Iterable[str]) -> str:
    """A phrase `` (did you mean "x"?)`` for the nearest of ``known``, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def check(value: Any, expected: Any, keys: Keys, hidden: frozenset[str] = frozenset()) -> None:
    """Raise ``SpecError`` at the deepest key of ``value`` that is not as ``expected``.

    value: a table as TOML gives it, or an instance of the struct.
    expected: a struct class or an annotation of one of its fields.
    hidden: fields of the struct that its table does not have.
    """
    bare = get_args(expected)[0] if get_origin(expected) is Annotated else expected
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        _check_struct(value, bare, keys, hidden)
        return
    if get_origin(bare) is dict and isinstance(value, dict):
        key_type, value_type = get_args(bare)
        for key, item in value.items():
            _check_value(key, key_type, keys.child(key))
            check(item, value_type, keys.child(key))
    elif get_origin(bare) is tuple and isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            check(item, get_args(bare)[0], keys.item(index))
    _check_value(value, expected, keys)


def _check_struct(
    value: Any, struct: type[msgspec.Struct], keys: Keys, hidden: frozenset[str]
) -> None:
    hints = _hints(struct)
    if isinstance(value, struct):
        for name in struct.__struct_fields__:
            part = getattr(value, name)
            if isinstance(hints[name], type) and not isinstance(part, hints[name]):
                raise keys.child(name).error(f"expected {hints[name].__name__}, got {_told(part)}")
            check(part, hints[name], keys.child(name))
        return
    if not isinstance(value, dict):
        raise keys.error(f"expected a table, got {_told(value)}")
    _check_key_set(value, struct, keys, hidden)
    for name, part in value.items():
        check(part, hints[name], keys.child(name))


@functools.cache
def _hints(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The annotations of ``struct``'s fields, evaluated; slow, hence cached."""
    return get_type_hints(struct, include_extras=True)


def _check_key_set(
    table: Mapping[Any, Any], struct: type[msgspec.Struct], keys: Keys, hidden: frozenset[str]
) -> None:
    allowed = [name for name in struct.__struct_fields__ if name not in hidden]
    for key in table:
        if key not in allowed:
            raise keys.child(key).error(
                f"unknown key{suggestion(str(key), allowed)}; allowed keys: {', '.join(allowed)}"
            )
    for info in msgspec.structs.fields(struct):
        if info.required and info.name not in table and info.name not in hidden:
            raise keys.child(info.name).error("this key is required")


def _check_value(value: Any, expected: Any, keys: Keys) -> None:
    try:
        msgspec.convert(value, expected)
    except (msgspec.ValidationError, RecursionError) as error:
        raise keys.error(f"expected {describe(expected)}, got {_told(value)}") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise keys.error(f"expected {describe(expected)}, finite, got {_told(value)}")
    if isinstance(value, str) and re.search("[\x00-\x1f\x7f]", value):
        raise keys.error(f"expected a string without control characters, got {_told(value)}")


def describe(expected: Any) -> str:
    """What an annotation allows, in words: ``a number above 0``."""
    return _describe(inspect.type_info(expected))


def _describe(info: inspect.Type) -> str:
    if isinstance(info, inspect.Metadata):
        return (info.extra_json_schema or {}).get("title") or _describe(info.type)
    if isinstance(info, inspect.UnionType):
        parts = [part for part in info.types if not isinstance(part, inspect.NoneType)]
        return " or ".join(_describe(part) for part in parts)
    if isinstance(info, inspect.VarTupleType):
        least = f" of at least {info.min_length}" if info.min_length else " of any number"
        return f"an array{least}, each {_describe(info.item_type)}"
    if isinstance(info, (inspect.IntType, inspect.FloatType)):
        noun = "an integer" if isinstance(info, inspect.IntType) else "a number"
        return noun + _bounds(info)
    if isinstance(info, inspect.StrType):
        if info.pattern:
            return f"a string matching {info.pattern.removeprefix('^').removesuffix('$')}"
        return "a non-empty string" if info.min_length else "a string"
    if isinstance(info, inspect.LiteralType):
        return "one of " + ", ".join(json.dumps(value) for value in info.values)
    if isinstance(info, inspect.AnyType):
        return "a value"
    return "true or false" if isinstance(info, inspect.BoolType) else "a table"


def _bounds(info: inspect.IntType | inspect.FloatType) -> str:
    if info.ge is not None and info.le is not None:
        return f" from {short(info.ge)} to {short(info.le)}"
    words = [f"above {info.gt:g}"] if info.gt is not None else []
    words += [f"of at least {info.ge:g}"] if info.ge is not None else []
    words += [f"of at most {info.le:g}"] if info.le is not None else []
    return "".join(f" {word}" for word in [" and ".join(words)] if word)


def short(number: float) -> str:
    """A number as a user would write it.

    >>> short(1e-6), short(1e9), short(2147483647)
    ('1e-6', '1e9', '2147483647')
    """
    if isinstance(number, int):
        return str(number)
    return re.sub(r"e([+-])0*", lambda sign: "e" + sign[1].strip("+"), f"{number:g}")


def _told(value: Any) -> str:
    """``value`` as a message shows it, in TOML's spelling and short."""
    if isinstance(value, (list, tuple)):
        return f"an array of {len(value)}"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, bool):
        return str(value).lower()
    text = toml_string(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
