"""Granules of a memory: what ``synchronise`` tells apart, and tiles should begin at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GRANULES = 1024
"""Granules of a memory at most; tiles that share one are ordered though they need not be."""


def granule_words(words: int, addresses: NDArray[Any] | None = None) -> int:
    """Size of a granule in a memory of ``words`` words; tiles best begin at multiples of it.

    A power of two, or more where all ``addresses`` at which tiles begin are multiples of more.
    """
    least = 1 << max(0, (max(1, words) - 1) // GRANULES).bit_length()
    common = 0 if addresses is None or not len(addresses) else int(np.gcd.reduce(addresses))
    return least if common % least or not common else common
