"""Integer products four at a time, with VNNI: unsigned by signed bytes, added to an int32 each.

An int32 holds four neighbours along the axis that is summed over, the first in its lowest byte.
``vpdpbusd`` adds all four products of two vectors of them to a vector of sums, exactly for any
bytes: no product is rounded or saturates on the way (Intel's manual, volume 2, VPDPBUSD).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.loops import Expr
from motet.targets.host.machine import Machine

_DOTS = {
    4: "llvm.x86.avx512.vpdpbusd.128",
    8: "llvm.x86.avx512.vpdpbusd.256",
    16: "llvm.x86.avx512.vpdpbusd.512",
}


def adds_dots(machine: Machine, lanes: int) -> bool:
    """Whether the machine has ``vpdpbusd`` for vectors of ``lanes`` int32."""
    return machine.multiplies_bytes and lanes in _DOTS


def dot_sum(lanes: int) -> Callable[[Expr, Expr, Expr], Expr]:
    """(total, unsigned bytes, signed bytes) to the total plus four products, in each lane."""

    def summed(total: Expr, x: Expr, weights: Expr) -> Expr:
        unsigned = tirx.reinterpret(f"uint8x{4 * lanes}", x)
        signed = tirx.reinterpret(f"int8x{4 * lanes}", weights)
        return tirx.call_llvm_pure_intrin(
            f"int32x{lanes}", _DOTS[lanes], total, unsigned, signed
        )  # fmt: skip

    return summed


def four(*values: Expr) -> Expr:
    """At most four bytes as one int32, zeros behind them."""
    mask = tirx.const(0xFF, "int32")
    parts = [
        (value.astype("int32") & mask) << tirx.const(8 * i, "int32")
        for i, value in enumerate(values)
    ]
    return reduce(operator.or_, parts)


def fours_along(array: NDArray[Any], axis: int) -> NDArray[np.int32]:
    """int8 ``array`` with every four neighbours along ``axis`` in an int32, 0 behind the last."""
    values = np.moveaxis(array.astype(np.int8), axis, -1)
    padding = [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % 4)]
    held = np.ascontiguousarray(np.pad(values, padding))
    return np.ascontiguousarray(np.moveaxis(held.view("<i4"), -1, axis))
