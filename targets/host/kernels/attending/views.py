"""Operands of attention where they lie: elements by batch, head, position and place in a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from motet.targets.host.loops import Buffer, Expr, constant_of, index, load
from motet.targets.operators.attention import Attention, extent


@dataclass(frozen=True, eq=False)
class View:
    """``buffer`` in a layout of ``motet.targets.operators.attention``."""

    buffer: Buffer
    layout: str

    def extent(self, axis: str) -> Expr:
        """Extent along an axis, by its letter."""
        return index(extent(self.buffer.shape, self.layout, axis))

    @property
    def contiguous(self) -> bool:
        """Whether the elements of a head are neighbours."""
        return self.layout.endswith("D")

    def indices(self, head: tuple[Expr, Expr], s: Expr, d: Expr) -> list[Expr]:
        """Where element ``d`` at position ``s`` of ``head`` (batch, head) lies."""
        place = {"B": head[0], "H": head[1], "S": s, "D": d}
        return [index(int(a)) if a.isdigit() else place[a] for a in self.layout]

    def at(self, head: tuple[Expr, Expr], s: Expr, d: Expr) -> Expr:
        """The element, or a vector of them where ``d`` is a ramp."""
        return load(self.buffer, *self.indices(head, s, d))


@dataclass(frozen=True, eq=False)
class Mask:
    """What is added to the scores; axes of one element broadcast."""

    buffer: Buffer

    def at(self, head: tuple[Expr, Expr], query: Expr, key: Expr) -> Expr:
        """Its value for a query and a key, or for a vector of keys; maybe a single value."""
        shape = list(self.buffer.shape)
        full = [*head, query, key][4 - len(shape) :]
        where = [index(0) if constant_of(n) == 1 else i for n, i in zip(shape, full, strict=True)]
        return load(self.buffer, *where)

    @property
    def by_key(self) -> bool:
        """Whether keys have values of their own."""
        return bool(len(self.buffer.shape)) and constant_of(self.buffer.shape[-1]) != 1


@dataclass(frozen=True, eq=False)
class Operands:
    """What the kernel reads, and what it fills."""

    query: View
    key: View
    value: View
    result: View
    mask: Mask | None
    scale: float

    @classmethod
    def of(cls, what: Attention, tensors: Any, result: Buffer) -> Operands:
        """The operands of a call."""
        q, k, v, *mask = tensors
        return cls(
            View(q, what.query), View(k, what.key), View(v, what.value),
            View(result, what.result), Mask(mask[0]) if mask else None, what.scale,
        )  # fmt: skip
