"""Concatenations and slices of stretches become parts: tensors that lie in others.

Rules, for steps in order, where all values are of the format's words:

1. A concatenation of whole stretches (``outer`` 1): every input that a step makes, that is no
   result and no part yet, and that comes once, is from then on a part of the output. Inputs that
   together are a concatenation made before (networks that concatenate all that they have again
   and again) are one part. The other inputs are copied to their stretch. Where all inputs would be
   copied, the concatenation stays a step.
2. A slice that is a stretch and no result is a part of what it is cut from.

A part that a windowed layer reads, whose view may be padded, begins at a whole image of its
tensor. Exact: the same values, written where they are wanted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from motet.targets.systolic.instructions.program import Element, Role, Tensor
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import (
    Convolution,
    Elementwise,
    Pooling,
    TransposedConvolution,
)
from motet.targets.systolic.workload.moves import Concat, Slice
from motet.targets.systolic.workload.parts import Part


def copy_name(concatenation: str, offset: int) -> str:
    """What the step is called that copies an input to ``offset`` of a concatenation's output."""
    return f"{concatenation}[{offset}]"


def concatenation_of(copy: str) -> str:
    """The name of the concatenation that a step of ``copy_name`` copies into."""
    return copy.rpartition("[")[0]


def with_parts(workload: Workload) -> Workload:
    """``workload`` without the concatenations and slices that need no copy."""
    joiner = _Joiner(workload)
    steps = [kept for step in workload.steps for kept in joiner.step(step)]
    parts = tuple(joiner.parts.values())
    return Workload(tuple(joiner.tensors), tuple(steps), parts, workload.vectors)


@dataclass
class _Joiner:
    """Tensors and parts so far; ``parts`` by their tensor."""

    workload: Workload

    def __post_init__(self) -> None:
        self.tensors = list(self.workload.tensors)
        self.parts = {part.tensor: part for part in self.workload.parts}
        self.made = {step.output for step in self.workload.steps}

    def step(self, step: Step) -> list[Step]:
        """What is done instead of ``step``."""
        if isinstance(step.layer, Concat) and step.layer.outer == 1:
            return self.concatenation(step, step.layer)
        if isinstance(step.layer, Slice) and step.layer.is_stretch:
            return [] if self.is_cut(step, step.layer) else [step]
        return [step]

    def concatenation(self, step: Step, layer: Concat) -> list[Step]:
        """Rule 1."""
        wanted = self.merged([*zip(step.inputs, layer.offsets, strict=True)])
        numbers = [number for number, _ in wanted]
        is_part = [
            numbers.count(number) == 1 and self.may_join(Part(number, step.output, offset))
            for number, offset in wanted
        ]
        if not any(is_part):
            return [step]
        copies = []
        for (number, offset), joins in zip(wanted, is_part, strict=True):
            if joins:
                self.join(Part(number, step.output, offset))
            else:
                copies.append(self.copy(step, number, offset))
        return copies

    def merged(self, wanted: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Inputs and their offsets, runs that are all of a concatenation as that one."""
        found, at = list[tuple[int, int]](), 0
        while at < len(wanted):
            number, offset = wanted[at]
            part, taken = self.parts.get(number), 1
            if part is not None and part.offset == 0 and part.whole in self.made:
                run = self.run_of(part.whole, [n for n, _ in wanted[at:]])
                if run:
                    number, taken = part.whole, run
            found.append((number, offset))
            at += taken
        return found

    def run_of(self, whole: int, numbers: list[int]) -> int:
        """How many of the first ``numbers`` make up all of ``whole``; 0 if they do not."""
        filled, size = 0, self.tensors[whole].elements
        for count, number in enumerate(numbers, 1):
            part = self.parts.get(number)
            if part is None or part.whole != whole or part.offset != filled:
                return 0
            filled += self.tensors[number].elements
            if filled == size:
                return count
        return 0

    def may_join(self, part: Part) -> bool:
        """Whether ``part.tensor`` can lie in ``part.whole`` from the step that makes it on."""
        tensor = self.tensors[part.tensor]
        is_own = part.tensor in self.made and part.tensor not in self.parts
        if not is_own or tensor.role is not Role.INTERNAL:
            return False
        inner = [other for other in self.parts.values() if other.whole == part.tensor]
        moved = [replace(o, whole=part.whole, offset=o.offset + part.offset) for o in inner]
        return all(self.fits(one) for one in (part, *moved))

    def fits(self, part: Part) -> bool:
        """Whether elements agree, and images begin where views of windows can begin."""
        inner, outer = self.tensors[part.tensor], self.tensors[part.whole]
        if inner.element is not outer.element or inner.element is not Element.WORD:
            return False
        planes = [
            step.layer.in_height * step.layer.in_width
            for step in self.workload.steps
            if isinstance(step.layer, (Convolution, Pooling, TransposedConvolution))
            and step.inputs[0] == part.tensor
        ]
        return all(part.offset % plane == 0 == outer.elements % plane for plane in planes)

    def join(self, part: Part) -> None:
        """``part``, and all that lies in it, from now on lie in ``part.whole``."""
        for other in list(self.parts.values()):
            if other.whole == part.tensor:
                offset = other.offset + part.offset
                self.parts[other.tensor] = Part(other.tensor, part.whole, offset)
        self.parts[part.tensor] = part

    def copy(self, step: Step, number: int, offset: int) -> Step:
        """A step that writes ``number`` into a stretch of the output."""
        source = self.tensors[number]
        shape = (math.prod(source.shape),)
        self.tensors.append(Tensor("", shape, Role.INTERNAL, source.element))
        copied = len(self.tensors) - 1
        self.parts[copied] = Part(copied, step.output, offset)
        return Step(copy_name(step.name, offset), Elementwise("identity", shape), (number,), copied)

    def is_cut(self, step: Step, layer: Slice) -> bool:
        """Rule 2; whether it holds, and then the part is noted."""
        around = self.parts.get(step.inputs[0], Part(-1, step.inputs[0], 0))
        part = Part(step.output, around.whole, around.offset + layer.offset)
        if self.tensors[step.output].role is not Role.INTERNAL or not self.fits(part):
            return False
        self.made.discard(step.output)
        self.parts[step.output] = part
        return True
