"""Element types that numpy lacks: bfloat16, floats of 8 bits and fewer, integers of 4 and 2.

Such a *narrow* type has three faces. To users it is a dtype of the package ml_dtypes. At a
model's boundary it is the type's own bits: two bytes for bfloat16, one for the others, the
value in the low bits, as ml_dtypes has them. Inside a program it is a *carrier*: a type
that every kernel runs, holding only values that the narrow type has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import EnvironmentLackError


@dataclass(frozen=True)
class NarrowType:
    """A narrow element type.

    name: of its dtype in ml_dtypes; ort_name: what onnxruntime calls it; bits: of one
    value; carrier: dtype that holds its values inside a program.
    """

    name: str
    ort_name: str
    bits: int
    carrier: str

    @property
    def stored(self) -> str:
        """The dtype of its bits at a model's boundary."""
        return "uint16" if self.bits > 8 else "uint8"

    @property
    def is_float(self) -> bool:
        """Whether it is a floating-point type."""
        return self.carrier == "float32"


_TYPES = (
    NarrowType("bfloat16", "bfloat16", 16, "float32"),
    NarrowType("float8_e4m3fn", "float8e4m3fn", 8, "float32"),
    NarrowType("float8_e4m3fnuz", "float8e4m3fnuz", 8, "float32"),
    NarrowType("float8_e5m2", "float8e5m2", 8, "float32"),
    NarrowType("float8_e5m2fnuz", "float8e5m2fnuz", 8, "float32"),
    NarrowType("float8_e8m0fnu", "float8e8m0", 8, "float32"),
    NarrowType("float6_e2m3fn", "float6e2m3", 6, "float32"),
    NarrowType("float6_e3m2fn", "float6e3m2", 6, "float32"),
    NarrowType("float4_e2m1fn", "float4e2m1", 4, "float32"),
    NarrowType("int4", "int4", 4, "int8"),
    NarrowType("uint4", "uint4", 4, "uint8"),
    NarrowType("int2", "int2", 2, "int8"),
    NarrowType("uint2", "uint2", 2, "uint8"),
)
NARROW: dict[str, NarrowType] = {narrow.name: narrow for narrow in _TYPES}


def stored_dtype(name: str) -> str:
    """The dtype of the bytes of an element type at a model's boundary."""
    return NARROW[name].stored if name in NARROW else name


def carrier_dtype(name: str) -> str:
    """The dtype that an element type is computed in."""
    return NARROW[name].carrier if name in NARROW else name


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype of an element type as users have it.

    Raises ``EnvironmentLackError`` where a narrow one needs ml_dtypes, which is not there.
    """
    if name in NARROW:
        try:
            import ml_dtypes
        except ImportError as error:
            raise EnvironmentLackError(
                f"{name} arrays need ml_dtypes: pip install ml_dtypes"
            ) from error
        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return dtype
    return np.dtype(name)


def is_float(name: str) -> bool:
    """Whether an element type is a floating-point one."""
    return NARROW[name].is_float if name in NARROW else np.dtype(name).kind == "f"


def to_bits(array: NDArray[Any], name: str) -> NDArray[Any]:
    """An array as users have it as the bytes of its type (the same memory)."""
    return array.view(NARROW[name].stored) if name in NARROW else array


def from_bits(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Bytes of an element type as users have its arrays (the same memory)."""
    return array.view(numpy_dtype(name)) if name in NARROW else array


def carried(array: NDArray[Any]) -> NDArray[Any]:
    """``array`` with a dtype that numpy has by itself: the carrier of a narrow type."""
    carrier = carrier_dtype(array.dtype.name)
    return array if carrier == array.dtype.name else array.astype(carrier)


def is_raw(array: NDArray[Any], name: str) -> bool:
    """Whether ``array`` holds plain bytes as wide as the narrow type: ``np.load`` gives them,
    since a ``.npy`` file says no more of such a type than its width.
    """
    width = np.dtype(NARROW[name].stored).itemsize if name in NARROW else 0
    return array.dtype.type is np.void and not array.dtype.fields and array.dtype.itemsize == width


def narrowed(array: NDArray[Any], name: str) -> NDArray[Any]:
    """``array`` from a file in a narrow type: its bytes, or numbers that the type has.

    Raises ``ValueError`` for numbers that it has not.
    """
    dtype = numpy_dtype(name)
    if is_raw(array, name):
        return array.view(dtype)
    if array.dtype == dtype or array.dtype.kind not in "biuf":
        return array
    with np.errstate(all="ignore"):
        result = array.astype(dtype)
        same = result.astype(np.float64) == array.astype(np.float64)
    if not (same | (array != array)).all():
        raise ValueError(f"holds numbers that {name} has not: round them with .astype({name!r})")
    return result
