"""How wide sums are: bits of an accumulator from the types and the depth of a product.

A vector's sum is at most V qw qa, times the product of two scales; all vectors of a product
add up exactly, so nothing saturates before the last requantisation, whatever the order of the
sum. The product of the scales may be rounded to fewer bits (VS-Quant, section 6): ``dropped``
low bits go, halves to even, and gamma is 2^dropped larger.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from motet.targets.quantized.types import QuantType


def largest_sum(
    weights: QuantType, activations: QuantType, lengths: Sequence[int], product_bits: int | None
) -> int:
    """The largest magnitude that a product over vectors of ``lengths`` elements may reach."""
    scale = largest_scale_product(weights, activations, product_bits)
    return scale * weights.magnitude * activations.magnitude * sum(lengths)


def accumulator_bits(
    weights: QuantType,
    activations: QuantType,
    lengths: Sequence[int],
    product_bits: int | None = None,
) -> int:
    """Bits of a two's complement accumulator that holds every sum.

    lengths: elements of each vector of the reduction: [16] * 288 for a depth of 4608.
    product_bits: bits that the product of two scales is rounded to; None: all of them.
    """
    return largest_sum(weights, activations, lengths, product_bits).bit_length() + 1


def dropped_bits(weights: QuantType, activations: QuantType, product_bits: int | None) -> int:
    """Low bits that rounding the product of two scales to ``product_bits`` drops."""
    full = sum(kind.scale_bits or 0 for kind in (weights, activations))
    return 0 if product_bits is None else max(0, full - product_bits)


def largest_scale_product(
    weights: QuantType, activations: QuantType, product_bits: int | None
) -> int:
    """The largest product of two scales after rounding."""
    exact = weights.largest_scale * activations.largest_scale
    dropped = dropped_bits(weights, activations, product_bits)
    if not dropped or product_bits is None:
        return exact
    return int(rounded_products(np.array([exact], np.int64), dropped, product_bits)[0])


def rounded_products(
    products: NDArray[np.int64], dropped: int, product_bits: int | None
) -> NDArray[np.int64]:
    """Products of scales without their ``dropped`` low bits: nearest, halves to even."""
    if not dropped:
        return products
    low = products & ((1 << dropped) - 1)
    high = products >> dropped
    half = 1 << (dropped - 1)
    up = (low > half) | ((low == half) & (high & 1 == 1))
    rounded: NDArray[np.int64] = high + up
    return rounded if product_bits is None else np.minimum(rounded, (1 << product_bits) - 1)
