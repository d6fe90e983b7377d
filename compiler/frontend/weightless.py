"""Copies of a model without the values of its large weights, for what looks at types alone.

Onnx's checker and shape inference serialise a model to hand it to C++: of a large one nearly
all of that time is for weights that they never look at.
"""

from __future__ import annotations

import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]

LARGE_BYTES = 4096
"""Raw data above this is a weight. Inference reads values of shapes, axes, scales, of a few."""
_READ_BY_INFERENCE = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
_OTHER_FIELDS = (
    "float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data",
    "external_data",
)  # fmt: skip


def is_large(tensor: onnx.TensorProto) -> bool:
    """Whether an initialiser holds nothing but raw values, and many."""
    return (
        len(tensor.raw_data) > LARGE_BYTES
        and tensor.data_type not in _READ_BY_INFERENCE
        and not any(len(getattr(tensor, field)) for field in _OTHER_FIELDS)
    )


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which large initialisers have their names, types and shapes, and no values."""
    bare = onnx.ModelProto()
    _copy_fields(model, bare, "graph")
    _copy_fields(model.graph, bare.graph, "initializer")
    for tensor in model.graph.initializer:
        copied = bare.graph.initializer.add()
        if is_large(tensor):
            _copy_fields(tensor, copied, "raw_data")
        else:
            copied.CopyFrom(tensor)
    return bare


def _copy_fields(source: Message, target: Message, but: str) -> None:
    """Copy all fields that are set, ``but`` one."""
    for field, value in source.ListFields():
        if field.name == but:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif isinstance(value, Message):
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)
