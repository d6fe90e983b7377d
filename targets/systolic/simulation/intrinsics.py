"""What compiled code needs below numba's Python: arrays at given addresses, bits of floats.

A program's tensors are the caller's arrays, of any number and of several types, so compiled
code takes their addresses and makes arrays of them itself.
"""

from __future__ import annotations

from typing import Any

from numba import extending, types
from numba.np.numpy_support import carray

from motet.targets.systolic.simulation.compiled import kernel

_intrinsic: Any = extending.intrinsic
_pointer_to: Any = types.CPointer


@_intrinsic
def _pointer(typing_context: Any, address: Any, like: Any) -> Any:
    """``address`` as a pointer to values of the array ``like``'s type."""
    signature = _pointer_to(like.dtype)(address, like)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target = context.get_value_type(signature.return_type)
        return builder.inttoptr(arguments[0], target)

    return signature, generate


@kernel
def array_at(address: int, size: int, like: Any) -> Any:
    """The ``size`` values at ``address`` of the host's memory, of the type of array ``like``.

    The caller keeps that memory alive and sees to it that the values are there.
    """
    return carray(_pointer(address, like), (size,))


@_intrinsic
def bits_of(typing_context: Any, value: Any) -> Any:
    """The bits of a float32 as a uint32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), generate


@_intrinsic
def float_of(typing_context: Any, bits: Any) -> Any:
    """The float32 that has the bits of a uint32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.uint32), generate
