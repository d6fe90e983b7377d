"""ONNX types of imported values, which some function bodies depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from tvm import relax

from motet.runtime.element_types import NARROW, numpy_dtype

from .values import Constant, EmptyOptional, Symbolic, Tensor, TensorSequence, Value, as_dim


def onnx_dtype(name: str) -> int:
    """The ``TensorProto`` element type of a Relax or numpy dtype name."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(numpy_dtype(name)))


def numpy_name(elem: int) -> str:
    """The numpy dtype name of a ``TensorProto`` element type."""
    return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem)).name)


def dtype_of(value: Value) -> str:
    """The element type of ``value``, of its items where it is a sequence."""
    if isinstance(value, Constant):
        return str(value.array.dtype.name)
    if isinstance(value, (Symbolic, TensorSequence)):
        return value.dtype
    if isinstance(value, Tensor):
        return value.element or str(value.expr.ty.dtype)
    return ""


def with_type_of(like: Value, value: Value) -> Value:
    """``value``, which is in the carrier of ``like``'s element type, with that type."""
    name = dtype_of(like)
    if name not in NARROW:
        return value
    if isinstance(value, Constant):
        return Constant(value.array.astype(numpy_dtype(name)))
    return replace(value, element=name) if isinstance(value, Tensor) else value


def type_proto(value: Value | None) -> onnx.TypeProto:
    """The ONNX type of ``value``; empty for an input that was left out."""
    if value is None:
        return onnx.TypeProto()
    if isinstance(value, EmptyOptional):
        return onnx.helper.make_optional_type_proto(value.type)
    if isinstance(value, TensorSequence):
        item = onnx.helper.make_tensor_type_proto(onnx_dtype(value.dtype), None)
        return onnx.helper.make_sequence_type_proto(item)
    if isinstance(value, Constant):
        return onnx.helper.make_tensor_type_proto(
            onnx_dtype(value.array.dtype.name), value.array.shape
        )
    if isinstance(value, Symbolic):
        return onnx.helper.make_tensor_type_proto(onnx_dtype(value.dtype), value.dims.shape)
    ty = value.expr.ty
    if not isinstance(ty, relax.TensorType):
        return onnx.TypeProto()
    shape = None
    if isinstance(ty.shape, relax.ShapeExpr):
        dims = [as_dim(dim) for dim in ty.shape.values]
        shape = [dim if isinstance(dim, int) else str(dim) for dim in dims]
    return onnx.helper.make_tensor_type_proto(onnx_dtype(dtype_of(value)), shape)
