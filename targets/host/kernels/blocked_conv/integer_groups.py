"""Neighbouring input channels that one instruction multiplies and adds, held in an int32.

*Pairs* of 16-bit values: ``pmaddwd`` (``kernels/pairs``), exact for whatever has 8 bits and a
zero point. *Fours* of unsigned by signed bytes: ``pmaddubsw`` adds the products of two
neighbours in 16 bits, saturating, and ``pmaddwd`` by ones the rest: three instructions instead
of four for as many products, and no conversion of the input. They are exact where no two
neighbouring weights together exceed 128 in magnitude (255 * 128 < 2**15), which ``fit_fours``
says: weights of 7 bits do, and the layout pass widens others to int16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.kernels.pairs import pair_product, pairs_along
from motet.targets.host.loops import Expr, broadcast
from motet.targets.host.machine import Machine

_BYTES = {
    4: "llvm.x86.ssse3.pmadd.ub.sw.128",
    8: "llvm.x86.avx2.pmadd.ub.sw",
    16: "llvm.x86.avx512.pmaddubs.w.512",
}


@dataclass(frozen=True)
class Group:
    """``size`` channels of type ``dtype`` in an int32."""

    size: int
    dtype: str

    def channels(self, count: int) -> int:
        """Groups of ``count`` channels."""
        return -(-count // self.size)

    def packed(self, weights: NDArray[Any]) -> NDArray[np.int32]:
        """Weights (O, I, KH, KW) with neighbours along I in one int32.

        Raises ValueError for weights whose products could saturate.
        """
        if self.size == 2:
            return pairs_along(weights, 1)
        if not fit_fours(weights):
            raise ValueError("int8 weights whose pairs exceed 16 bits must come as int16")
        last = np.ascontiguousarray(np.moveaxis(weights.astype(np.int8), 1, -1))
        return np.ascontiguousarray(np.moveaxis(last.view("<i4"), -1, 1))

    def product(self, machine: Machine, lanes: int) -> Callable[[Expr, Expr], Expr]:
        """The sum of a group's products in each of ``lanes`` lanes, of (input, weights)."""
        return pair_product(machine, lanes) if self.size == 2 else _product_of_fours(machine, lanes)


PAIRS = Group(2, "int16")
FOURS = Group(4, "uint8")


def multiplies_fours(machine: Machine, lanes: int) -> bool:
    """Whether the machine has the instruction for vectors of ``lanes`` int32."""
    return machine.arch == "x86_64" and "ssse3" in machine.required_features and lanes in _BYTES


def fit_fours(weights: NDArray[Any]) -> bool:
    """Whether every two neighbouring input channels' products with bytes fit 16 bits."""
    if weights.shape[1] % 4 or weights.min(initial=0) < -128 or weights.max(initial=0) > 127:
        return False
    pairs = weights.astype(np.int32).reshape(weights.shape[0], -1, 2, *weights.shape[2:])
    above, below = np.maximum(pairs, 0).sum(2), np.minimum(pairs, 0).sum(2)
    return bool(above.max(initial=0) <= 128 and below.min(initial=0) >= -128)


def _product_of_fours(machine: Machine, lanes: int) -> Callable[[Expr, Expr], Expr]:
    add = pair_product(machine, lanes)
    ones = broadcast(tirx.const(0x00010001, "int32"), lanes)

    def product(x: Expr, weights: Expr) -> Expr:
        sides = (
            tirx.reinterpret(f"uint8x{4 * lanes}", x),
            tirx.reinterpret(f"int8x{4 * lanes}", weights),
        )
        halves = tirx.call_llvm_pure_intrin(f"int16x{2 * lanes}", _BYTES[lanes], *sides)
        return add(tirx.reinterpret(f"int32x{lanes}", halves), ones)

    return product
