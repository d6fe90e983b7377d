"""How the integers of a product of vectors are multiplied, added and scaled.

A *word* is what one lane of 32 bits holds of a vector: four bytes or two int16. Words of a
vector are multiplied and added by one instruction each:

- ``BYTES``: ``pmaddubsw``, unsigned by signed bytes, in two sums of 16 bits a lane. A *chunk* of
  words is so short that these cannot overflow; one ``pmaddwd`` then adds both and multiplies
  them with a scale.
- ``DOTS``: ``vpdpbusd`` (VNNI), the same bytes in one sum of 32 bits.
- ``PAIRS``: ``pmaddwd`` of int16, in one sum of 32 bits: whatever the integers.

Signed data become unsigned by an offset, which what the sums start at takes back.

Weights may be *folded*: packed as they are times their scales, where that fits the element.
Sums over vectors are ``NARROW`` (int32, put into int64 before they could overflow: how often,
weights say) where a vector times both scales fits 31 bits, else ``WIDE`` (int64), or ``FLOAT``.
All bounds are those of the types; nothing saturates, so all forms give the same integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from motet.targets.host.kernels.blocked_conv.integer_groups import multiplies_fours
from motet.targets.host.kernels.fours import adds_dots
from motet.targets.host.machine import Machine
from motet.targets.operators.vectors import VectorProduct

_INT16, _INT31 = 2**15 - 1, 2**31 - 1
_MOST_WORDS = 8
"""Words whose products are written out, not looped over."""


class Instruction(Enum):
    """What multiplies words; the value: elements of a word."""

    BYTES = "bytes"
    DOTS = "dots"
    PAIRS = "pairs"

    @property
    def size(self) -> int:
        """Elements of a word."""
        return 2 if self is Instruction.PAIRS else 4


class Sums(Enum):
    """How products of scales and sums of vectors add up."""

    NARROW = "narrow"
    WIDE = "wide"
    FLOAT = "float"


@dataclass(frozen=True)
class Ranges:
    """Magnitudes that the types of a product allow.

    x, w: of the integers; x_scale, w_scale: of their scales (1 where they are floats);
    x_signed, w_signed: of the elements.
    """

    x: int
    w: int
    x_scale: int
    w_scale: int
    x_signed: bool
    w_signed: bool

    @classmethod
    def of(cls, what: VectorProduct, x_signed: bool, w_signed: bool) -> Ranges:
        """Those of a product."""

        def magnitude(bits: int, signed: bool) -> int:
            return 1 << (bits - 1) if signed else (1 << bits) - 1

        return cls(
            magnitude(what.x_bits, x_signed), magnitude(what.w_bits, w_signed),
            max(1, (1 << what.x_scale_bits) - 1), max(1, (1 << what.w_scale_bits) - 1),
            x_signed, w_signed,
        )  # fmt: skip

    @property
    def offset(self) -> int:
        """What makes the data unsigned."""
        return self.x if self.x_signed else 0

    @property
    def unsigned(self) -> int:
        """The largest of the data with the offset."""
        return 2 * self.x - 1 if self.x_signed else self.x

    def fits_byte(self, times: int = 1) -> bool:
        """Whether weights ``times`` larger are signed bytes."""
        return self.w * times <= (128 if self.w_signed and times == 1 else 127)


@dataclass(frozen=True)
class Form:
    """See the module.

    chunk: words of one, a divisor of those of a vector. by_x: ``pmaddwd`` of a chunk multiplies
    with the data's scale (of folded weights), else with the weights'. scaled: whether sums of a
    vector hold the weights' scales. largest: of a product of two scales, as it is multiplied with.
    """

    instruction: Instruction
    sums: Sums
    ranges: Ranges
    what: VectorProduct
    vector: int
    folded: bool
    scaled: bool
    by_x: bool
    chunk: int
    largest: int

    @property
    def words(self) -> int:
        """Of a vector."""
        return -(-self.vector // self.instruction.size)

    @property
    def offset(self) -> int:
        """What is added to signed data."""
        return 0 if self.instruction is Instruction.PAIRS else self.ranges.offset

    @property
    def starts(self) -> bool:
        """Whether chunks start at what takes the offset back."""
        return self.offset > 0

    @property
    def has_scales(self) -> bool:
        """Whether the weights' scales lie beside the weights."""
        return not self.folded

    @property
    def rows(self) -> int:
        """Rows of packed weights for one vector: words, starts of chunks, scales."""
        return self.words + self.starts * (self.words // self.chunk) + self.has_scales

    @property
    def vector_bound(self) -> int:
        """The largest sum of one vector times both scales."""
        return self.ranges.x * self.ranges.w * self.vector * self.largest


def form_of(
    what: VectorProduct,
    ranges: Ranges,
    vector: int,
    machine: Machine,
    lanes: int,
    constant: bool = True,
) -> Form:
    """The form with the fewest instructions that the types allow.

    constant: whether weights are.
    """
    instruction = _instruction(ranges, machine, lanes, constant)
    size = instruction.size
    words, r = -(-vector // size), ranges
    plain = what.is_exact and not what.dropped
    largest = _largest_product(what, r)
    is_narrow = what.is_exact and r.x * r.w * vector * largest <= _INT31
    folded = plain and _folds(instruction, r)
    if instruction is Instruction.BYTES:
        folded = folded and is_narrow
    scaled = folded or (plain and instruction is Instruction.BYTES and r.w_scale <= _INT16)
    if scaled and r.x * r.w * r.w_scale * vector > _INT31:
        folded = scaled = False
    most = _MOST_WORDS
    if instruction is Instruction.BYTES:
        most = min(most, _INT16 // (r.x * r.w * (r.w_scale if folded else 1) * 2))
    chunk = _divisor(words, most)
    sums = Sums.NARROW if is_narrow else Sums.WIDE if what.is_exact else Sums.FLOAT
    by_x = folded and instruction is Instruction.BYTES
    return Form(instruction, sums, ranges, what, vector, folded, scaled, by_x, chunk, largest)


def _instruction(r: Ranges, machine: Machine, lanes: int, constant: bool) -> Instruction:
    """Computed weights are pairs where vectors have 512 bits: bytes packed as the kernel runs came
    out wrong there, in the emulator that stands for such CPUs.
    """
    if not constant and machine.vector_bytes > 32:
        return Instruction.PAIRS
    if adds_dots(machine, lanes) and r.fits_byte():
        return Instruction.DOTS
    exact = 2 * r.unsigned * r.w <= _INT16
    if multiplies_fours(machine, lanes) and r.fits_byte() and exact:
        return Instruction.BYTES
    return Instruction.PAIRS


def _folds(instruction: Instruction, r: Ranges) -> bool:
    """Whether weights times their scales are elements too."""
    if instruction is Instruction.PAIRS:
        return r.w * r.w_scale <= _INT16
    if not r.fits_byte(r.w_scale):
        return False
    if instruction is Instruction.DOTS:
        return True
    exact = 2 * r.unsigned * r.w * r.w_scale <= _INT16
    return exact and r.x_scale <= _INT16


def _largest_product(what: VectorProduct, r: Ranges) -> int:
    product = r.x_scale * r.w_scale
    if not what.dropped or what.product_bits is None:
        return product
    half = 1 << (what.dropped - 1)
    return min((product + half) >> what.dropped, (1 << what.product_bits) - 1)


def _divisor(number: int, most: int) -> int:
    """The largest divisor of ``number`` up to ``most``; 1 at least."""
    return next(d for d in range(max(1, min(number, most)), 0, -1) if number % d == 0)
