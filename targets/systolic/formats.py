"""Number formats of the array: what a word of a scratchpad holds, and what sums are kept in.

A program computes in one format. A *word* is one value of it: scratchpads are addressed
in words of the program's format, accumulators in words of 32 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

ACCUMULATOR_BYTES = 4


@dataclass(frozen=True)
class Format:
    """A number format.

    Attributes
    ----------
    name: how descriptions, specifications and reports call it.
    code: how encoded programs call it.
    bits: size of a word in DRAM and scratchpad; int4 packs two a byte.
    stored: numpy type that the simulators keep a word in (bf16: fp32 holding rounded values).
    accumulated: numpy type of partial sums.
    """

    name: str
    code: int
    bits: int
    stored: np.dtype[Any]
    accumulated: np.dtype[Any]

    @property
    def is_integer(self) -> bool:
        """Whether arithmetic is exact integers, modulo 2**32."""
        return self.accumulated.kind == "i"

    def words(self, size_bytes: int) -> int:
        """Words that ``size_bytes`` bytes hold."""
        return size_bytes * 8 // self.bits

    def bytes(self, words: int) -> int:
        """Bytes that ``words`` words take, rounded up."""
        return -(-words * self.bits // 8)


def _format(name: str, code: int, bits: int, stored: str, accumulated: str) -> Format:
    return Format(name, code, bits, np.dtype(stored), np.dtype(accumulated))


FORMATS: dict[str, Format] = {
    made.name: made
    for made in (
        _format("fp32", 1, 32, "float32", "float32"),
        _format("bf16", 2, 16, "float32", "float32"),
        _format("int8", 3, 8, "int8", "int32"),
        _format("int4", 4, 4, "int8", "int32"),
    )
}
"""All formats by name."""
