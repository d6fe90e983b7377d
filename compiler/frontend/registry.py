"""Converters that users add, without touching Motet: by domain, operator and version.

``register`` writes into the innermost layer: that of the process, or while
``operators_from`` reads a file, one that lasts as long as the compilation that wants it.
A user's converter goes before Motet's own, and before a function of the model.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from motet.runtime.errors import SpecError

from .node import Node

Convert = Callable[[Node], Any]


@dataclass
class Layer:
    """Converters of one origin: ``(domain, operator)`` -> first version -> converter."""

    origin: str
    table: dict[tuple[str, str], dict[int, Convert]] = field(default_factory=dict)

    def find(self, domain: str, op_type: str, version: int) -> Convert | None:
        """The converter of the newest operator that is not newer than ``version``."""
        versions = self.table.get((domain, op_type), {})
        since = max((since for since in versions if since <= version), default=None)
        return None if since is None else versions[since]


_PROCESS = Layer("this program")
_LAYERS: ContextVar[tuple[Layer, ...]] = ContextVar("layers", default=(_PROCESS,))


def register(op_type: str, *, domain: str, since: int = 1) -> Callable[[Convert], Convert]:
    """Decorator: the function converts nodes of ``domain``'s operator ``op_type``.

    Parameters
    ----------
    op_type: as ``NodeProto.op_type`` has it.
    domain: as ``NodeProto.domain`` has it; ``""`` (or ``ai.onnx``) is ONNX's own, whose
        operators Motet's converters then no longer see.
    since: the first version of the operator set that the converter is for; of several
        converters the newest that fits the model's import is taken.

    The function takes a ``Node`` and returns a Relax expression, or a list of them, one per
    output. Raises ``SpecError`` for a wrong argument.
    """
    given = {"op_type": (op_type, str), "domain": (domain, str), "since": (since, int)}
    for name, (value, kind) in given.items():
        if not isinstance(value, kind):
            raise SpecError(f"register: {name} is a {kind.__name__}, not {value!r}")
    if not op_type or since < 1:
        raise SpecError(f"register: no operator {op_type!r} since version {since}")
    key = ("" if domain == "ai.onnx" else domain, op_type)

    def add(convert: Convert) -> Convert:
        if not callable(convert):
            raise SpecError(f"register: the converter of {op_type} is a function of a Node")
        _LAYERS.get()[-1].table.setdefault(key, {})[since] = convert
        return convert

    return add


def user_converter(domain: str, op_type: str, version: int) -> Convert | None:
    """The user's converter of an operator; None where there is none."""
    found = (layer.find(domain, op_type, version) for layer in reversed(_LAYERS.get()))
    return next((convert for convert in found if convert is not None), None)


def registered() -> frozenset[tuple[str, str]]:
    """Domain and type of every operator that a user's converter is for."""
    return frozenset(key for layer in _LAYERS.get() for key in layer.table)


@contextmanager
def operators_from(paths: Sequence[str]) -> Iterator[None]:
    """Within it the converters that the Python files ``paths`` register are known.

    Raises
    ------
    SpecError
        Where a file fails, registers nothing, or what another registers too.
    """
    layers: list[Layer] = []
    for path in paths:
        layer = _loaded(Path(path))
        for other in layers:
            twice = sorted(other.table.keys() & layer.table.keys())
            if twice:
                name = "::".join(filter(None, twice[0]))
                raise SpecError(f"operators: {other.origin} and {path} both register {name}")
        layers.append(layer)
    token = _LAYERS.set((*_LAYERS.get(), *layers))
    try:
        yield
    finally:
        _LAYERS.reset(token)


@contextmanager
def taken_as_registered(keys: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Within it operators ``keys`` count as registered, for checks alone: they convert nothing."""
    layer = Layer("a bundle", {key: {1: _converts_nothing} for key in keys})
    token = _LAYERS.set((*_LAYERS.get(), layer))
    try:
        yield
    finally:
        _LAYERS.reset(token)


def _converts_nothing(node: Node) -> Any:
    return node.refuse("its converter is not here")


def _loaded(path: Path) -> Layer:
    """What the file registers; modules beside it can be imported while it runs."""
    layer = Layer(str(path))
    name = f"motet_operators_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise SpecError(f"operators: {path} is no Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    folder, token = str(path.resolve().parent), _LAYERS.set((layer,))
    sys.path.insert(0, folder)
    sys.modules[name] = module  # TVMScript looks its source up there
    try:
        spec.loader.exec_module(module)
    except SpecError as error:
        raise SpecError(f"operators: {path}: {error}") from error
    except Exception as error:  # whatever the user's file raises
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if f.filename == str(path.resolve())]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        raise SpecError(f"operators: {where}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
        _LAYERS.reset(token)
    if not layer.table:
        raise SpecError(
            f"operators: {path} registers no operator: decorate a converter with "
            '@motet.operators.register("Name", domain="...")'
        )
    return layer
