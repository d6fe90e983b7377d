"""Tensors that are parts of others: a concatenation or a split without a copy.

A part has a number of its own; steps write and read it as any tensor. In a program it is a
stretch of its whole's values: views of it become views of the whole (``whole_view``). Images of
one batch are so concatenated and split along their channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from motet.runtime.errors import CompileError
from motet.targets.systolic.instructions.addressing import View
from motet.targets.systolic.instructions.program import Role, Tensor


@dataclass(frozen=True)
class Part:
    """Tensor number ``tensor`` is values [offset, offset + its elements) of tensor ``whole``."""

    tensor: int
    whole: int
    offset: int


def check_parts(parts: Sequence[Part], tensors: Sequence[Tensor]) -> None:
    """Raise ``CompileError`` for a part that is no INTERNAL stretch of a whole of its element."""
    numbers = {part.tensor for part in parts}
    for part in parts:
        inner, outer = tensors[part.tensor], tensors[part.whole]
        is_inside = 0 <= part.offset <= outer.elements - inner.elements
        is_alike = inner.element is outer.element and inner.role is Role.INTERNAL
        if part.whole in numbers or not is_inside or not is_alike or len(numbers) != len(parts):
            raise CompileError(
                f"tensor {part.tensor} ({inner.name!r}) cannot be a part of tensor {part.whole}: a "
                "part is INTERNAL, of the whole's element type and inside it, and of one whole only"
            )


class Written:
    """Which values of a workload's tensors are there; a part's are its whole's."""

    def __init__(self, tensors: Sequence[Tensor], parts: Sequence[Part]) -> None:
        self._tensors = tensors
        self._parts = {part.tensor: part for part in parts}
        self._ranges: dict[int, list[tuple[int, int]]] = {}

    def write(self, tensor: int) -> bool:
        """Note that ``tensor`` is written; False where any of it was written before."""
        whole, start, stop = self._span(tensor)
        ranges = self._ranges.setdefault(whole, [])
        is_new = all(stop <= low or high <= start for low, high in ranges)
        ranges.append((start, stop))
        return is_new

    def has(self, tensor: int) -> bool:
        """Whether all values of ``tensor`` are written."""
        whole, start, stop = self._span(tensor)
        for low, high in sorted(self._ranges.get(whole, ())):
            if low > start:
                return False
            start = max(start, high)
            if start >= stop:
                return True
        return False

    def _span(self, tensor: int) -> tuple[int, int, int]:
        part = self._parts.get(tensor)
        whole, start = (tensor, 0) if part is None else (part.whole, part.offset)
        return whole, start, start + self._tensors[tensor].elements


def whole_view(view: View, part: Part, whole: Tensor) -> View:
    """The values of a ``view`` of a part, as a view of its whole.

    Padding is around the last two axes, so that a padded part must begin with one of them.
    """
    if not any(view.padding):
        return replace(view, tensor=part.whole, shape=whole.shape, offset=view.offset + part.offset)
    plane, padded = math.prod(view.shape[-2:]), math.prod(view.padded_shape[-2:])
    if part.offset % plane or whole.elements % plane:
        raise CompileError(
            f"tensor {part.tensor} is padded and begins inside an image of tensor {part.whole}: "
            "concatenate and split along channels, or copy it"
        )
    shape = (whole.elements // plane, *view.shape[-2:])
    offset = view.offset + part.offset // plane * padded
    return replace(view, tensor=part.whole, shape=shape, offset=offset)
