"""Weights stored in bfloat16, which kernels widen in registers.

A bfloat16 is the upper half of a float32: eight values are read with zeros between them and
shifted by 16 bits, two instructions beside the multiply-accumulates that read them. Weights
take half the memory, and half the time to come from it. That pays where each is read a few
times only: a product of one row takes 0.7 of its time, of 128 rows 1.1 (AVX2). Where it does
not, weights that are rounded already are stored in float32, which computes the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.runtime.element_types import numpy_dtype
from motet.targets.host.loops import Expr
from motet.targets.host.options import KernelOptions

BITS = "uint16"


_MOST_READINGS = 16


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
