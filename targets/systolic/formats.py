"""Number formats of the array: what a word of a scratchpad holds, and what sums are kept in.

A program computes in one format. A *word* is one value of it, or, in a format of vectors, one
vector of integers with its scale (VS-Quant): scratchpads are addressed in words of the
program's format, accumulators in words of its sums, 32 bits or 64.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

ACCUMULATOR_BYTES = 4
WIDEST_SUM = 64
"""Bits of a sum that accumulators can hold, in two of their 32-bit words."""


@dataclass(frozen=True)
class VectorOperand:
    """One side of a product of vectors: integers of ``bits``, and a scale of ``scale_bits`` each.

    unsigned: whether the integers have no sign.
    """

    bits: int
    scale_bits: int
    unsigned: bool = False

    @property
    def least(self) -> int:
        """The least integer that ``bits`` hold."""
        return 0 if self.unsigned else -(1 << (self.bits - 1))

    @property
    def largest(self) -> int:
        """The largest integer that ``bits`` hold."""
        return (1 << self.bits) - 1 if self.unsigned else (1 << (self.bits - 1)) - 1

    @property
    def stored(self) -> np.dtype[Any]:
        """NumPy type of the integers in the host's memory."""
        return np.dtype("uint8" if self.unsigned else "int8")

    def word_bits(self, length: int) -> int:
        """Bits of a vector of ``length`` integers with its scale."""
        return length * self.bits + self.scale_bits


@dataclass(frozen=True)
class VectorFormat:
    """Words that are vectors of ``length`` integers.

    weights, inputs: the two sides of a product. product_bits: bits that the product of two
    scales is rounded to; None: all of them. sum_bits: of a word of the accumulators, 32 or 64.
    """

    length: int
    weights: VectorOperand
    inputs: VectorOperand
    product_bits: int | None = None
    sum_bits: int = 32

    @property
    def scale_product_bits(self) -> int:
        """Bits of the product of two scales as it meets the sum of a vector."""
        full = self.weights.scale_bits + self.inputs.scale_bits
        return full if self.product_bits is None else min(full, self.product_bits)

    @property
    def dropped(self) -> int:
        """Low bits of a product of two scales that rounding drops."""
        return self.weights.scale_bits + self.inputs.scale_bits - self.scale_product_bits

    @property
    def dot_bits(self) -> int:
        """Bits of the sum over a vector, before it is scaled."""
        return self.weights.bits + self.inputs.bits + (self.length - 1).bit_length()

    @property
    def name(self) -> str:
        """``v16-4/8u/6/10-p12-wide``: V, bits of weights, inputs and their scales, and the rest.

        ``u``: unsigned; ``p``: ``product_bits``; ``wide``: sums of 64 bits.
        """
        sides = (self.weights, self.inputs)
        bits = "/".join(f"{side.bits}{'u' * side.unsigned}" for side in sides)
        text = f"v{self.length}-{bits}/{self.weights.scale_bits}/{self.inputs.scale_bits}"
        text += "" if self.product_bits is None else f"-p{self.product_bits}"
        return text + "-wide" * (self.sum_bits > 32)


@dataclass(frozen=True)
class Format:
    """A number format.

    Attributes
    ----------
    name: how descriptions, specifications and reports call it.
    code: how encoded programs call it.
    bits: size of a word's place in scratchpads; int4 packs two a byte. In DRAM, too, but for
        vectors, whose two sides differ.
    stored: numpy type that the simulators keep a word in (bf16: fp32 holding rounded values; a
        vector: the number of its word in a table).
    accumulated: numpy type of partial sums; of vectors that of what they are converted to.
    vectors: what a word is where it is a vector.
    """

    name: str
    code: int
    bits: int
    stored: np.dtype[Any]
    accumulated: np.dtype[Any]
    vectors: VectorFormat | None = None

    @property
    def is_integer(self) -> bool:
        """Whether arithmetic is exact integers, modulo 2**32, to the end."""
        return self.accumulated.kind == "i"

    @property
    def lanes(self) -> int:
        """Multiply-accumulates of one word with another."""
        return 1 if self.vectors is None else self.vectors.length

    @property
    def input_bits(self) -> int:
        """True bits of a word of a product's input."""
        made = self.vectors
        return self.bits if made is None else made.inputs.word_bits(made.length)

    @property
    def weight_bits(self) -> int:
        """True bits of a word of a product's weight."""
        made = self.vectors
        return self.bits if made is None else made.weights.word_bits(made.length)

    @property
    def output_bits(self) -> int:
        """Bits of a value that a product leaves in DRAM; floats behind products of vectors."""
        return self.bits if self.vectors is None else 32

    @property
    def accumulator_bytes(self) -> int:
        """Bytes of a word of the accumulators."""
        return ACCUMULATOR_BYTES if self.vectors is None else self.vectors.sum_bits // 8

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
"""All formats of single values by name."""

VECTOR_CODE = 5
"""Of all formats of vectors in encoded programs, which have their record then."""
_VECTORS = re.compile(r"v(\d{1,3})-(\d)(u?)/(\d)(u?)/(\d{1,2})/(\d{1,2})(?:-p(\d{1,2}))?(-wide)?")
MOST_LENGTH, MOST_BITS, MOST_SCALE_BITS = 128, 8, 16


def of_vectors(vectors: VectorFormat) -> Format:
    """The format whose words are such vectors; ``ValueError`` for bits that it cannot have."""
    sides = (vectors.weights, vectors.inputs)
    good = 1 <= vectors.length <= MOST_LENGTH and vectors.sum_bits in (32, WIDEST_SUM)
    good &= all(1 <= s.bits <= MOST_BITS and 1 <= s.scale_bits <= MOST_SCALE_BITS for s in sides)
    full = sum(side.scale_bits for side in sides)
    good &= vectors.product_bits is None or 1 <= vectors.product_bits < full
    if not good:
        raise ValueError(f"{vectors.name} is no format of vectors")
    bits = max(side.word_bits(vectors.length) for side in sides)
    stored, sums = np.dtype("int32"), np.dtype("float32")
    return Format(vectors.name, VECTOR_CODE, bits, stored, sums, vectors)


@lru_cache(maxsize=256)
def format_named(name: str) -> Format:
    """The format of that name, of single values or of vectors; ``KeyError`` for another."""
    found = _VECTORS.fullmatch(name)
    if found is None:
        return FORMATS[name]
    v, w, wu, a, au, ws, s, p, wide = found.groups()
    sides = (VectorOperand(int(w), int(ws), bool(wu)), VectorOperand(int(a), int(s), bool(au)))
    try:
        made = of_vectors(VectorFormat(int(v), *sides, int(p) if p else None, 64 if wide else 32))
    except ValueError:
        raise KeyError(name) from None
    if made.name != name:
        raise KeyError(name)
    return made
