"""Stored tensors: truncated or foreign data, other types and shapes, NaN; inputs frozen."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .graphs import pick_graph

DIMS = (0, 1, -1, 2, 7, 2**31, 2**40, 2**62, -(2**63))
ELEMENT_TYPES = tuple(sorted(TensorProto.DataType.values()))


def damage(tensor: TensorProto, chance: Random) -> str:
    """Change a tensor in place; says how."""
    change = chance.choice((_truncate, _retype, _reshape, _fill, _fill, _external, _typed))
    return change(tensor, chance)


def _truncate(tensor: TensorProto, chance: Random) -> str:
    raw = tensor.raw_data
    cut = chance.randrange(len(raw) + 1)
    tensor.raw_data = raw[:cut] if chance.random() < 0.7 else raw + b"\xff" * (cut + 1)
    return f"holds {len(tensor.raw_data)} bytes instead of {len(raw)}"


def _retype(tensor: TensorProto, chance: Random) -> str:
    tensor.data_type = chance.choice((*ELEMENT_TYPES, 99, -1))
    return f"is of type {tensor.data_type}"


def _reshape(tensor: TensorProto, chance: Random) -> str:
    dims = list(tensor.dims)
    if dims and chance.random() < 0.4:
        total = math.prod(dims)
        dims = chance.choice(([total], [1, *dims], [*dims, 1], dims[::-1]))
    elif dims and chance.random() < 0.8:
        dims[chance.randrange(len(dims))] = chance.choice(DIMS)
    else:
        dims.append(chance.choice(DIMS))
    tensor.dims[:] = dims
    return f"has the shape {dims}"


def _fill(tensor: TensorProto, chance: Random) -> str:
    """Other values of the same type and shape."""
    try:
        array = np.array(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, OverflowError, MemoryError):
        return _truncate(tensor, chance)
    if array.dtype.kind not in "fiub" or not array.size:
        return _truncate(tensor, chance)
    if array.dtype.kind == "f":
        value = chance.choice((0.0, -1.0, 1e30, np.nan, np.inf, -np.inf, 0.5))
    else:
        value = chance.choice((0, 1, -1, 2, 3, 100, 2**31 - 1, 2**31, 2**62, -(2**63)))
    with np.errstate(all="ignore"):
        new = np.asarray(value).astype(array.dtype)
    where = chance.choice((slice(None), chance.randrange(array.size)))
    array.reshape(-1)[where] = new
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return f"holds {value}"


def _external(tensor: TensorProto, chance: Random) -> str:
    where = chance.choice(("/etc/passwd", "../x", "missing.bin", "", ".", "a\x00b", "fuzzed.onnx"))
    tensor.data_location = TensorProto.EXTERNAL
    if chance.random() < 0.7:
        tensor.ClearField("raw_data")
    entries = {"location": where, "offset": chance.choice(("", "0", "4", "-1", "x", "9" * 30))}
    entries["length"] = chance.choice(("", "0", "8", "-1", "9" * 30))
    for key, text in entries.items():
        if text:
            tensor.external_data.add(key=key, value=text)
    return f"lies in {where!r}"


def _typed(tensor: TensorProto, chance: Random) -> str:
    """Data in the field of another type."""
    field = chance.choice(("float_data", "int32_data", "int64_data", "double_data", "uint64_data"))
    if chance.random() < 0.5:
        tensor.ClearField("raw_data")
    getattr(tensor, field).extend([1] * chance.choice((1, 2, 7)))
    return f"has {field}"


def damage_initializer(model: onnx.ModelProto, chance: Random) -> str:
    """One initializer damaged."""
    tensors = pick_graph(model, chance).initializer
    if not tensors:
        return ""
    tensor = chance.choice(tensors)
    return f"initializer {tensor.name!r} {damage(tensor, chance)}"


def freeze_input(model: onnx.ModelProto, chance: Random) -> str:
    """An input becomes a constant of small numbers: the model stays right."""
    graph = model.graph
    if not graph.input:
        return ""
    info = chance.choice(graph.input)
    kind = info.type.tensor_type
    dims = [dim.dim_value or 1 for dim in kind.shape.dim]
    if not 0 <= math.prod(dims) <= 1 << 16 or min(dims, default=0) < 0:
        return ""
    if kind.elem_type == TensorProto.STRING:
        return ""
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        drawn = np.array([chance.randint(-2, 4) for _ in range(math.prod(dims))]).reshape(dims)
        array = drawn.astype(dtype)
        graph.initializer.append(numpy_helper.from_array(array, info.name))
    except (ValueError, TypeError, KeyError, OverflowError):  # no type that numpy has
        return ""
    name = info.name
    if chance.random() < 0.7:
        graph.input.remove(info)
    return f"input {name!r} is a constant"


def thaw_initializer(model: onnx.ModelProto, chance: Random) -> str:
    """A constant becomes an input: the model stays right."""
    graph = model.graph
    if not graph.initializer:
        return ""
    tensor = chance.choice(graph.initializer)
    info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
    graph.initializer.remove(tensor)
    if all(other.name != info.name for other in graph.input):
        graph.input.append(info)
    return f"constant {info.name!r} is an input"


def sparse_initializer(model: onnx.ModelProto, chance: Random) -> str:
    """An initializer is stored as a sparse one, right or wrong."""
    graph = model.graph
    if not graph.initializer:
        return ""
    tensor = chance.choice(graph.initializer)
    sparse = graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor)
    sparse.dims[:] = list(tensor.dims)
    indices = np.arange(chance.choice((0, 1, 3)), dtype=np.int64)
    sparse.indices.CopyFrom(numpy_helper.from_array(indices, f"{tensor.name}_indices"))
    if chance.random() < 0.7:
        graph.initializer.remove(tensor)
    return f"constant {sparse.values.name!r} is stored sparsely"


MUTATIONS = (
    damage_initializer, damage_initializer, damage_initializer, freeze_input, freeze_input,
    freeze_input, thaw_initializer, sparse_initializer,
)  # fmt: skip
