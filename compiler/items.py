"""What a Relax value is while an entry function becomes a program."""

from __future__ import annotations

from dataclasses import dataclass

from motet.runtime.shapes import Shape


@dataclass(frozen=True)
class ShapeValue:
    """A Relax shape: dimensions that are known when the inputs are bound."""

    dimensions: Shape


@dataclass(frozen=True)
class Tensors:
    """A Relax tuple: its items."""

    items: tuple[Item, ...]


@dataclass(frozen=True)
class ShapeSource:
    """A Relax shape whose dimensions are the elements of a register, for these ONNX nodes."""

    register: int
    names: Names


Names = tuple[str, ...]
Item = int | ShapeValue | ShapeSource | Tensors
"""What a Relax value is at run time: a register, a shape, or a tuple of these."""
