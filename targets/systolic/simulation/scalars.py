"""Single values of a format: narrowing to words, and multiplying by a real constant.

Compiled code is written once for all formats; what differs between floats and integers
is chosen here, by type, while compiling.

bf16 words are fp32 values whose low 16 bits are zero: rounded to nearest, ties to even.
Integers are scaled as onnxruntime's QLinearConv scales them: the int32 is rounded to fp32,
multiplied in fp32, and rounded to the nearest integer, ties to even; the result saturates
to 32 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from motet.targets.systolic.simulation.compiled import kernel
from motet.targets.systolic.simulation.intrinsics import bits_of, float_of

_LOWEST, _HIGHEST = -(2**31), 2**31 - 1
_integer: Any = np.int64
_FAR = np.float32(2.0**62)


@kernel
def round_bf16(value: Any) -> Any:
    """The bf16 value nearest to a float32, as float32; a NaN stays one, quiet."""
    bits = bits_of(value)
    rounded = np.uint32(bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    if (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000):
        rounded = np.uint32(bits | np.uint32(0x400000))
    return float_of(np.uint32(rounded & np.uint32(0xFFFF0000)))


def word(value: Any, is_bf16: bool) -> Any:
    """``value`` as a word: rounded to bf16 if asked; integers as they are."""
    raise NotImplementedError("compiled code only")


@overload(word, strict=False)
def _word(value: Any, is_bf16: bool) -> Any:
    if isinstance(value, types.Float):
        return lambda value, is_bf16: round_bf16(value) if is_bf16 else value
    return lambda value, is_bf16: value


def affine(value: Any, factor: Any, constant: Any) -> Any:
    """Value x factor + constant; integers round value x factor (see the module) and saturate."""
    raise NotImplementedError("compiled code only")


@overload(affine, strict=False)
def _affine(value: Any, factor: Any, constant: Any) -> Any:
    if isinstance(value, types.Float):
        return lambda value, factor, constant: value * factor + constant

    def integers(value: Any, factor: Any, constant: Any) -> Any:
        product = np.rint(np.float32(value) * np.float32(factor))
        total = _integer(min(max(product, -_FAR), _FAR))
        return np.int32(min(max(total + np.int64(constant), _LOWEST), _HIGHEST))

    return integers
