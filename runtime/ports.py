"""Sequences as callers see them: lists where the program has one tensor per item.

A model with a sequence input ``seq`` of two tensors runs on ``{"seq": [a, b]}``; the
items are also inputs of their own, ``seq.0`` and ``seq.1``. An optional output that holds
nothing is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from motet.runtime.errors import BundleError, InputError
from motet.runtime.manifest import Port
from motet.runtime.program import TensorInfo


class Ports:
    """The inputs or outputs of a model, and the program's tensors that stand for them.

    ports: as the manifest has them; empty where every tensor stands for itself.
    """

    def __init__(self, ports: Sequence[Port], tensors: Sequence[TensorInfo]) -> None:
        names = [info.name for info in tensors]
        self.ports = tuple(ports) or tuple(Port(name) for name in names)
        self.plain = not ports
        counts = [port.count for port in self.ports]
        if sum(counts) != len(names) or any(count < 0 for count in counts):
            raise BundleError(f"its ports stand for {sum(counts)} tensors of {len(names)}")
        self._items: dict[str, tuple[str, ...]] = {}
        for port in self.ports:
            self._items[port.name] = tuple(names[: port.count])
            names = names[port.count :]

    @property
    def names(self) -> list[str]:
        """In the ONNX file's order."""
        return [port.name for port in self.ports]

    def items(self, name: str) -> tuple[str, ...]:
        """The program's tensors that stand for port ``name``."""
        return self._items[name]

    def flat(self, given: Mapping[str, Any], model: str) -> Mapping[str, Any]:
        """``given`` with the items of lists one by one; raises ``InputError`` for a wrong list."""
        if self.plain:
            return given
        result = dict(given)
        for port in self.ports:
            if port.kind == "sequence" and port.name in result:
                values = result.pop(port.name)
                if not isinstance(values, (list, tuple)) or len(values) != port.count:
                    got = f"{len(values)} items" if isinstance(values, (list, tuple)) else "no list"
                    raise InputError(
                        f"model {model!r}: input {port.name!r} is a sequence of {port.count} "
                        f"tensors, not {got}: compile the model for as many (shapes)"
                    )
                result |= zip(self._items[port.name], values, strict=True)
        return result

    def tensors(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What ``grouped`` gave, tensor by tensor; raises ``InputError`` for another length."""
        if self.plain:
            return dict(values)
        result: dict[str, Any] = {}
        for port in self.ports:
            items = values[port.name] if port.kind == "sequence" else [values[port.name]]
            if port.kind == "sequence" and len(items) != port.count:
                raise InputError(
                    f"sequence {port.name!r} has {len(items)} items, here {port.count}"
                )
            result |= zip(self._items[port.name], items, strict=False)
        return result

    def grouped(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors by name as what the model's caller gets: arrays, lists, None."""
        if self.plain:
            return dict(tensors)
        return {port.name: self._value(port, tensors) for port in self.ports}

    def _value(self, port: Port, tensors: Mapping[str, Any]) -> Any:
        values = [tensors[name] for name in self._items[port.name]]
        if port.kind == "sequence":
            return values
        return values[0] if values else None
