"""Rules of programs whose words are vectors: what is a vector, what a sum, what a float."""

from __future__ import annotations

from typing import Any

import numpy as np

from motet.targets.systolic.instructions.isa import Flag, Function, Opcode
from motet.targets.systolic.instructions.program import Element, Role, SystolicProgram
from motet.targets.systolic.instructions.rule_chunk import SECOND_TILE, Chunk, Mask

WORDS = (Element.WORD, Element.WEIGHT)
ONLY_IN_VECTORS = (Element.WEIGHT, Element.SCALE, Element.INT64)


def wrong_vectors(program: SystolicProgram) -> str | None:
    """What is wrong with the tensors of a program, as far as vectors are concerned."""
    tensors = program.tensors
    if program.number_format.vectors is None:
        odd = [i for i, tensor in enumerate(tensors) if tensor.element in ONLY_IN_VECTORS]
        names = f"tensor {odd[0]} ({tensors[odd[0]].name!r})" if odd else ""
        return f"{names} is of vectors, {program.format} has none" if odd else None
    for number, tensor in enumerate(tensors):
        name = f"tensor {number} ({tensor.name!r})"
        if tensor.element is Element.SCALE:
            owner = tensors[number - 1] if number else tensor
            alike = (owner.role, owner.elements) == (tensor.role, tensor.elements)
            if owner.element not in WORDS or not alike:
                return f"{name} has scales, and no vectors of the same number before it"
        if tensor.element in WORDS:
            follows = tensors[number + 1 : number + 2]
            if not follows or follows[0].element is not Element.SCALE:
                return f"{name} has vectors, and no scales behind it"
            if tensor.role not in (Role.INPUT, Role.WEIGHT):
                return f"{name} is made by the program, which makes no vectors: store floats"
        if tensor.element is Element.INT32:
            return f"{name} is INT32: sums of vectors are FP32 or INT64"
    for number, view in enumerate(program.views):
        if view.tensor < len(tensors) and tensors[view.tensor].element is Element.SCALE:
            return f"view {number} is of scales: they go with their vectors"
    return None


class VectorRules(Chunk):
    """``check_vectors``: DEQUANTISE in formats of vectors alone, and what else those take."""

    def check_vectors(self) -> None:
        """Vectors into scratchpads, floats and sums out of accumulators, nothing else."""
        dequantises = self.is_[Opcode.VECTOR] & self.within("function", (Function.DEQUANTISE,))
        if self.program.number_format.vectors is None:
            self.refuse(dequantises, "dequantise is for formats of vectors: use requantise")
            return
        integer = self._of(Element.INT64)
        vectors = self._of(*WORDS)
        load, sums = self.is_[Opcode.LOAD], self.has(Flag.ACCUMULATORS)
        self.refuse(
            self.any_of(Opcode.CONV1D, Opcode.TRANSFER) | self.has(Flag.RESIDENT),
            "vectors are loaded and multiplied (matmul), and nothing else",
        )
        self.refuse(self.has(Flag.PAD_LOWEST), "vectors are padded with zeros: clear +lowest")
        self.refuse(self.has(Flag.BIAS), "sums of vectors start from 0: add a bias to the floats")
        self.refuse(load & sums & ~self._of(Element.FP32), "accumulators are loaded with floats")
        self.refuse(
            load & ~sums & ~vectors, "a scratchpad holds vectors: load others +accumulators"
        )
        self.refuse(
            self.is_[Opcode.VECTOR] & self.within("function", SECOND_TILE) & ~sums,
            "a scratchpad holds vectors, which no vector function takes: use +accumulators",
        )
        limited = np.isfinite(self.field["low"]) | np.isfinite(self.field["high"])
        stores = self.is_[Opcode.STORE]
        self.refuse(stores & vectors, "sums are no vectors: store floats or INT64")
        self.refuse(stores & integer & limited, "INT64 sums are stored as they are: no limits")

    def _of(self, *elements: Element) -> Mask:
        """Where the tensor behind the view is of one of these elements."""
        program = self.program
        of_view: Any = [program.tensors[view.tensor].element in elements for view in program.views]
        known = np.array([*of_view, False], bool)
        made: Mask = known[np.minimum(self.field["operand"], len(program.views))]
        return made
