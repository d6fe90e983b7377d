"""The vectors that a caller gives a program: checked, and put into one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import InputError
from motet.targets.systolic.formats import VectorFormat, VectorOperand
from motet.targets.systolic.instructions.program import Element, SystolicProgram

Array = NDArray[Any]


@dataclass(frozen=True)
class VectorTable:
    """integers: int16 [1 + words, V]; scales: int64 [1 + words]; word 0 is zeros.

    numbers: of every tensor of vectors, int32: which words it has.
    """

    integers: NDArray[np.int16]
    scales: NDArray[np.int64]
    numbers: dict[int, NDArray[np.int32]]


def operand_of(vectors: VectorFormat, program: SystolicProgram, number: int) -> VectorOperand:
    """Which side's words tensor ``number`` has, or the one whose scales it has."""
    element = program.tensors[number].element
    if element is Element.SCALE:
        element = program.tensors[number - 1].element
    return vectors.weights if element is Element.WEIGHT else vectors.inputs


def vector_table(program: SystolicProgram, arrays: Mapping[int, Array]) -> VectorTable:
    """The table of a run; raises ``InputError`` for what the format's bits cannot hold.

    ``arrays``: of each tensor that the caller gives: integers [words x V], scales [words].
    """
    vectors = program.number_format.vectors
    assert vectors is not None
    owners = [
        number
        for number, tensor in enumerate(program.tensors)
        if tensor.element in (Element.WORD, Element.WEIGHT)
    ]
    total = 1 + sum(program.tensors[number].elements for number in owners)
    integers, scales = np.zeros((total, vectors.length), np.int16), np.zeros(total, np.int64)
    numbers, at = {}, 1
    for number in owners:
        side = operand_of(vectors, program, number)
        count = program.tensors[number].elements
        name = program.tensors[number].name or f"tensor {number}"
        _require(name, arrays[number], side.least, side.largest, side.bits)
        largest = (1 << side.scale_bits) - 1
        _require(f"scales of {name}", arrays[number + 1], 0, largest, side.scale_bits)
        integers[at : at + count] = arrays[number].reshape(count, vectors.length)
        scales[at : at + count] = arrays[number + 1].reshape(count)
        numbers[number] = np.arange(at, at + count, dtype=np.int32)
        at += count
    return VectorTable(integers, scales, numbers)


def _require(name: str, values: Array, least: int, largest: int, bits: int) -> None:
    low, high = int(values.min(initial=least)), int(values.max(initial=least))
    if low < least or high > largest:
        raise InputError(
            f"array program: {name} holds {high if high > largest else low}, which {bits} bits "
            f"({least} to {largest}) do not; quantise it to these bits"
        )
