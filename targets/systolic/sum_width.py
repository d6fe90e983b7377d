"""How wide the sums of a product of vectors are, from its format and, where known, its weights.

A vector adds at most round(sw sa) x largest |sum of qw qa|. With the weights known, sw and the
magnitudes of qw are theirs; activations may be anything that their bits hold. Magnitudes are
added up, so that no partial sum, in whatever order, is wider.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import CompileError
from motet.targets.quantized.accumulators import rounded_products
from motet.targets.systolic.formats import WIDEST_SUM, VectorFormat


class KnownWeights(NamedTuple):
    """integers: [columns, ..., V]; scales: [columns, ...]."""

    integers: NDArray[Any]
    scales: NDArray[Any]


def sum_width(words: VectorFormat, depth: int, known: KnownWeights | None = None) -> int:
    """Bits of a two's complement number that holds every sum of ``depth`` vectors."""
    return (_largest(words, depth) if known is None else _largest_of(words, known)).bit_length() + 1


def require_width(bits: int, name: str) -> None:
    """Raises ``CompileError`` for sums that no accumulator holds."""
    if bits > WIDEST_SUM:
        raise CompileError(
            f"{name} take {bits} bits, accumulators hold {WIDEST_SUM} in two words; use fewer "
            "bits of scales, round the product of scales to fewer (product_bits), or leave it "
            "to the host"
        )


def _magnitude(least: int, largest: int) -> int:
    return max(-least, largest)


def _largest(words: VectorFormat, depth: int) -> int:
    sides = (words.weights, words.inputs)
    weight, value = (_magnitude(side.least, side.largest) for side in sides)
    scale = int(_rounded(words, np.array([(1 << words.weights.scale_bits) - 1]))[0])
    return depth * words.length * weight * value * scale


def _largest_of(words: VectorFormat, known: KnownWeights) -> int:
    columns = known.scales.shape[0]
    integers = known.integers.reshape(columns, -1, words.length).astype(np.int64)
    scales = _rounded(words, known.scales.reshape(columns, -1).astype(np.int64))
    up, down = np.maximum(integers, 0).sum(axis=2), np.maximum(-integers, 0).sum(axis=2)
    least, largest = -words.inputs.least, words.inputs.largest
    high, low = up * largest + down * least, up * least + down * largest
    sums = (scales * np.maximum(high, low)).sum(axis=1)
    return int(sums.max(initial=0))


def _rounded(words: VectorFormat, scales: NDArray[np.int64]) -> NDArray[np.int64]:
    """Products of weight scales and the largest activation scale, rounded."""
    most = (1 << words.inputs.scale_bits) - 1
    return rounded_products(scales.astype(np.int64) * most, words.dropped, words.product_bits)
