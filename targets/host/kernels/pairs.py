"""Integer products two at a time: one instruction multiplies pairs of int16 and adds each pair.

An int32 holds a pair, the first value in its lower half: ``[k] = x[2 k], x[2 k + 1]`` along
the axis that is summed over. ``pmaddwd`` of two such vectors is, in every lane,
``low * low' + high * high'`` in int32. Values of 8 bits without their zero points fit, and
the sums are exact. An odd axis ends in a pair whose second weight is 0. With VNNI ``vpdpwssd``
adds what ``pmaddwd`` gives to an accumulator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.loops import Expr
from motet.targets.host.machine import Machine

_NARROW = frozenset(("int8", "uint8", "int16"))
_INTRINSICS = {
    4: "llvm.x86.sse2.pmadd.wd",
    8: "llvm.x86.avx2.pmadd.wd",
    16: "llvm.x86.avx512.pmaddw.d.512",
}
_SUMS = {
    4: "llvm.x86.avx512.vpdpwssd.128",
    8: "llvm.x86.avx512.vpdpwssd.256",
    16: "llvm.x86.avx512.vpdpwssd.512",
}


def takes_pairs(accumulator: str, left: str, right: str) -> bool:
    """Whether a product of these element types can be summed in pairs."""
    return accumulator == "int32" and left in _NARROW and right in _NARROW


def pair_product(machine: Machine, lanes: int) -> Callable[[Expr, Expr], Expr]:
    """``low * low' + high * high'`` in each of ``lanes`` lanes of two vectors of pairs."""
    if machine.arch != "x86_64" or lanes not in _INTRINSICS:
        return _halves_product

    def product(left: Expr, right: Expr) -> Expr:
        sides = [tirx.reinterpret(f"int16x{2 * lanes}", side) for side in (left, right)]
        return tirx.call_llvm_pure_intrin(f"int32x{lanes}", _INTRINSICS[lanes], *sides)

    return product


def pair_sum(machine: Machine, lanes: int) -> Callable[[Expr, Expr, Expr], Expr]:
    """(total, pairs, pairs) to the total plus both products, in each of ``lanes`` lanes."""
    if not machine.multiplies_bytes or lanes not in _SUMS:
        product = pair_product(machine, lanes)
        return lambda total, left, right: fenced(total + product(left, right))

    def summed(total: Expr, left: Expr, right: Expr) -> Expr:
        sides = [tirx.reinterpret(f"int16x{2 * lanes}", side) for side in (left, right)]
        return tirx.call_llvm_pure_intrin(f"int32x{lanes}", _SUMS[lanes], total, *sides)

    return summed


def fenced(vector: Expr) -> Expr:
    """``vector``, as a value that LLVM does not look into.

    It would sum the products of several steps first, for which there are not enough registers.
    """
    lanes = int(vector.ty.dtype.lanes)
    bits = tirx.reinterpret(f"float32x{lanes}", vector)
    fence = tirx.call_llvm_pure_intrin(f"float32x{lanes}", "llvm.arithmetic.fence", bits)
    return tirx.reinterpret(f"int32x{lanes}", fence)


def _halves_product(left: Expr, right: Expr) -> Expr:
    half = tirx.const(16, left.ty.dtype)
    low = ((left << half) >> half) * ((right << half) >> half)
    return low + (left >> half) * (right >> half)


def pair(low: Expr, high: Expr) -> Expr:
    """Two values of at most 16 bits as one int32."""
    mask, half = (tirx.const(v, "int32") for v in (0xFFFF, 16))
    return (low.astype("int32") & mask) | (high.astype("int32") << half)


def pairs_along(array: NDArray[Any], axis: int) -> NDArray[np.int32]:
    """``array`` with every two neighbours along ``axis`` as one int32, 0 after an odd one."""
    values = np.moveaxis(array.astype(np.int32), axis, 0)
    if len(values) % 2:
        values = np.concatenate([values, np.zeros_like(values[:1])])
    packed = (values[0::2] & 0xFFFF) | (values[1::2] << 16)
    return np.ascontiguousarray(np.moveaxis(packed, 0, axis))
