"""Neighbouring input channels that one instruction multiplies and adds, held in an int32.

*Pairs* of 16-bit values: ``pmaddwd`` (``kernels/pairs``), exact for whatever has 8 bits and a
zero point. *Fours* of unsigned by signed bytes: ``pmaddubsw`` adds the products of two
neighbours in 16 bits, saturating, and ``pmaddwd`` by ones the rest: three instructions instead
of four for as many products, and no conversion of the input. They are exact where no two
neighbouring weights together exceed 128 in magnitude (255 * 128 < 2**15), which ``fit_fours``
says: weights of 7 bits do, and the layout pass widens others to int16. It also says that an
output has at most 26 bits, which Winograd's convolution of bytes needs. *Dots* are fours where the
machine has VNNI, whose one instruction is exact for any bytes (``kernels/fours``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.kernels.fours import dot_sum, four, fours_along
from motet.targets.host.kernels.pairs import (
    pair,
    pair_sum,
    pairs_along,
)
from motet.targets.host.loops import Expr
from motet.targets.host.machine import Machine

_BYTES = {
    4: "llvm.x86.ssse3.pmadd.ub.sw.128",
    8: "llvm.x86.avx2.pmadd.ub.sw",
    16: "llvm.x86.avx512.pmaddubs.w.512",
}


@dataclass(frozen=True)
class Group:
    """``size`` channels of type ``dtype`` in an int32.

    dots: whether one instruction adds a group's products to a sum.
    """

    size: int
    dtype: str
    dots: bool = False

    def channels(self, count: int) -> int:
        """Groups of ``count`` channels."""
        return -(-count // self.size)

    def packed(self, weights: NDArray[Any]) -> NDArray[np.int32]:
        """Weights (O, I, KH, KW) with neighbours along I in one int32.

        Raises ValueError for weights whose products could saturate.
        """
        if self.size == 2:
            return pairs_along(weights, 1)
        if not self.dots and not fit_fours(weights):
            raise ValueError("int8 weights whose pairs exceed 16 bits must come as int16")
        return fours_along(weights, 1)

    def joined(self, channels: Sequence[Expr]) -> Expr:
        """At most ``size`` values as one int32, zeros behind them."""
        if self.size == 4:
            return four(*channels)
        low, high = [*channels, tirx.const(0, channels[0].ty.dtype)][:2]
        return pair(low, high)

    def summed(self, machine: Machine, lanes: int) -> Callable[[Expr, Expr, Expr], Expr]:
        """(total, input, weights) to the total plus a group's products, in each lane."""
        if self.dots:
            return dot_sum(lanes)
        assert self.size == 2, "fours without such an instruction are summed in ``chains``"
        return pair_sum(machine, lanes)


PAIRS = Group(2, "int16")
FOURS = Group(4, "uint8")
DOTS = Group(4, "uint8", dots=True)


def multiplies_fours(machine: Machine, lanes: int) -> bool:
    """Whether the machine has the instruction for vectors of ``lanes`` int32."""
    return machine.arch == "x86_64" and "ssse3" in machine.required_features and lanes in _BYTES


def fit_fours(weights: NDArray[Any]) -> bool:
    """Whether every two neighbouring input channels' products with bytes fit 16 bits, and all
    sums 26.
    """
    if weights.shape[1] % 4 or weights.min(initial=0) < -128 or weights.max(initial=0) > 127:
        return False
    pairs = weights.astype(np.int32).reshape(weights.shape[0], -1, 2, *weights.shape[2:])
    above, below = np.maximum(pairs, 0).sum(2), np.minimum(pairs, 0).sum(2)
    if above.max(initial=0) > 128 or below.min(initial=0) < -128:
        return False
    each = tuple(range(1, above.ndim))
    sums = above.sum(each).max(initial=0), -below.sum(each).min(initial=0)
    return bool(255 * max(sums) < 2**25)


def halves_of_fours(lanes: int) -> Callable[[Expr, Expr], Expr]:
    """Of unsigned bytes and signed ones: products of two neighbours, added in 16 bits."""

    def multiply(x: Expr, weights: Expr) -> Expr:
        sides = (
            tirx.reinterpret(f"uint8x{4 * lanes}", x),
            tirx.reinterpret(f"int8x{4 * lanes}", weights),
        )
        return tirx.call_llvm_pure_intrin(f"int16x{2 * lanes}", _BYTES[lanes], *sides)

    return multiply
