"""Weights stored in bfloat16, which kernels widen in registers.

A bfloat16 is the upper half of a float32: eight values are read with zeros between them and
shifted by 16 bits, two instructions beside the multiply-accumulates that read them. Weights
take half the memory, and half the time to come from it. That pays where each is read a few
times only: a product of one row takes 0.7 of its time, of 128 rows 1.1 (AVX2). Where it does
not, weights that are rounded already are stored in float32, which computes the same.

With AVX512-BF16 an instruction multiplies pairs: ``y += low * low' + high * high'`` in every
lane of a float32 vector. Both operands then hold words of two values, neighbours along the
sum, the first in the low half.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.ir import StringImm

from motet.runtime.element_types import numpy_dtype
from motet.targets.host.loops import Buffer, Expr, Stmt
from motet.targets.host.machine import Machine
from motet.targets.host.options import KernelOptions

BITS = "uint16"


WORD = "uint32"
_MOST_READINGS = 16
_DOT = "motet_dot_bf16"
_DOT_CODE = """
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)

define linkonce_odr hidden <16 x float> @motet_dot_bf16(
    <16 x float> %total, <16 x i32> %left, <16 x i32> %right) #0 {
  %x = bitcast <16 x i32> %left to <32 x bfloat>
  %w = bitcast <16 x i32> %right to <32 x bfloat>
  %sum = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(
      <16 x float> %total, <32 x bfloat> %x, <32 x bfloat> %w)
  ret <16 x float> %sum
}

attributes #0 = { alwaysinline nounwind readnone "target-features"="+avx512f,+avx512bf16" }
"""


def stores_bits(
    options: KernelOptions, accumulator: str, weight: str, readings: int | None
) -> bool:
    """Whether constant weights of type ``weight`` are stored so; ``readings``: rows, or
    positions, that each is multiplied with, None where that is open.
    """
    few = readings is not None and 0 < readings <= _MOST_READINGS
    return options.compute == "bf16" and accumulator == weight == "float32" and few


def bits_of(array: NDArray[Any]) -> NDArray[np.uint16]:
    """``array`` rounded to bfloat16, halves to even, as its bits."""
    return np.asarray(array).astype(numpy_dtype("bfloat16")).view(np.uint16)


def widened(weights: Expr) -> Expr:
    """Weights as they were loaded, in float32 where they are bits of bfloat16."""
    dtype = weights.ty.dtype
    if not str(dtype).startswith(BITS):
        return weights
    lanes = "" if int(dtype.lanes) == 1 else f"x{dtype.lanes}"
    bits = weights.astype(f"uint32{lanes}")
    return tirx.reinterpret(f"float32{lanes}", bits << tirx.const(16, bits.ty.dtype))


def multiplicand(loaded: Expr, dtype: str) -> Expr:
    """What was loaded from an operand, in ``dtype`` unless it is words."""
    return loaded if str(loaded.ty.dtype).startswith(WORD) else widened(loaded).astype(dtype)


def takes_words(
    options: KernelOptions, machine: Machine, dtypes: Collection[str], steps: int | None
) -> bool:
    """Whether operands and sums of these types, of ``steps``, go in pairs by one instruction."""
    even = steps is not None and steps > 0 and steps % 2 == 0
    floats = set(dtypes) == {"float32"}
    return options.compute == "bf16" and machine.multiplies_bfloat16 and floats and even


def words_along(array: NDArray[Any], axis: int) -> NDArray[np.uint32]:
    """``array`` rounded to bfloat16, every two neighbours along the even ``axis`` in a word."""
    bits = np.moveaxis(bits_of(array), axis, 0).astype(np.uint32)
    return np.ascontiguousarray(np.moveaxis(bits[0::2] | bits[1::2] << 16, 0, axis))


def word(low: Expr, high: Expr) -> Expr:
    """Two float32 that are values of bfloat16 as one word."""
    upper = tirx.reinterpret(WORD, high) & tirx.const(0xFFFF0000, WORD)
    return upper | (tirx.reinterpret(WORD, low) >> tirx.const(16, WORD))


def added_dots(total: Expr, left: Expr, right: Expr) -> Expr:
    """``total`` plus the products of two vectors of words."""
    return tirx.call_pure_extern("float32x16", _DOT, total, left, right)


def with_dots(body: Stmt, words: Buffer) -> Stmt:
    """``body``, which calls ``added_dots``, with the code of that.

    TVM has no vectors of bfloat16 to call LLVM's function with.
    """
    return tirx.AttrStmt(words.data, "pragma_import_llvm", StringImm(_DOT_CODE), body)
