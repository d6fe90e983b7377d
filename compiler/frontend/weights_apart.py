"""The weights of an ONNX file left where they were read, and only the rest of it parsed.

Protobuf copies all values when it parses, again for each copy of a model, and again whenever a
field of bytes is read. Here the file's bytes are walked first: the raw data of a large
initialiser of the model's graph is left out of what is parsed, which says instead, as ONNX says
it of weights in other files, where they lie.

The encoding: a field is a number and a wire type, then a varint, 4 or 8 bytes, or a length and
as many bytes (https://protobuf.dev/programming-guides/encoding). What is not written as
everybody writes it stays whole, for protobuf and onnx to judge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from .weightless import LARGE_BYTES

HERE = "\0"
"""The location of what lies in the model's own file; no other file has that name."""
_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _DOC = 1, 2, 8, 9, 12
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_ITEM_BYTES: dict[int, int] = {
    onnx.TensorProto.INT8: 1,
    onnx.TensorProto.UINT8: 1,
    onnx.TensorProto.FLOAT16: 2,
    onnx.TensorProto.FLOAT: 4,
    onnx.TensorProto.DOUBLE: 8,
}
"""Of the element types that are left out."""


class _UnusualError(Exception):
    """The bytes are no plain encoding of a model."""


@dataclass(frozen=True)
class _Field:
    """A field that begins at ``start``; its value lies at [value, end), a varint's is number."""

    key: int
    wire: int
    start: int
    value: int
    end: int
    number: int = 0


@dataclass
class _Stored:
    """What an initialiser's fields say."""

    dims: list[int] = field(default_factory=list)
    data_type: int = 0
    raw: list[_Field] = field(default_factory=list)
    is_plain: bool = True

    @property
    def fills_its_shape(self) -> bool:
        """Whether the raw data is exactly the elements of the shape."""
        (raw,) = self.raw
        return math.prod(self.dims) * _ITEM_BYTES[self.data_type] == raw.end - raw.value


def parse_apart(data: bytes) -> onnx.ModelProto:
    """The model that ``data`` encodes, its large weights being external data at ``HERE``.

    Their offsets are those in ``data``. Raises ``DecodeError`` where protobuf does.
    """
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(_without_weights(data))
    except (_UnusualError, DecodeError):
        proto.Clear()
        proto.ParseFromString(data)
    return proto


def values_here(tensor: onnx.TensorProto, data: bytes) -> NDArray[Any] | None:
    """The values of a tensor that lie in ``data``; None where they lie elsewhere.

    Raises ``ValueError`` where ``data`` has not so many.
    """
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return None
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if entries.get("location") != HERE:
        return None
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    count, offset = math.prod(tensor.dims), int(entries["offset"])
    return np.frombuffer(data, dtype, count, offset).reshape(tensor.dims)


def _without_weights(data: bytes) -> bytes:
    graphs = [each for each in _fields(data, 0, len(data)) if each.key == _GRAPH]
    if len(graphs) != 1 or graphs[0].wire != _LENGTH:
        raise _UnusualError
    (graph,) = graphs
    inner, kept = list[bytes](), graph.value
    for each in _fields(data, graph.value, graph.end):
        if each.key == _INITIALIZER and each.wire == _LENGTH:
            tensor = _pointing(data, each)
            if tensor is not None:
                inner += [data[kept : each.start], _message(_INITIALIZER, tensor)]
                kept = each.end
    inner.append(data[kept : graph.end])
    return data[: graph.start] + _message(_GRAPH, b"".join(inner)) + data[graph.end :]


def _pointing(data: bytes, tensor: _Field) -> bytes | None:
    """The encoding of an initialiser that says where its raw data lies; None for a small one."""
    if tensor.end - tensor.value <= LARGE_BYTES:
        return None
    stored = _stored(data, tensor)
    if not stored.is_plain or len(stored.raw) != 1 or stored.data_type not in _ITEM_BYTES:
        return None
    (raw,) = stored.raw
    length = raw.end - raw.value
    if length <= LARGE_BYTES or not stored.fills_its_shape:
        return None
    pointer = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", HERE), ("offset", raw.value), ("length", length)):
        pointer.external_data.add(key=key, value=str(value))
    return b"".join(
        [data[tensor.value : raw.start], data[raw.end : tensor.end], pointer.SerializeToString()]
    )


def _stored(data: bytes, tensor: _Field) -> _Stored:
    found = _Stored()
    for each in _fields(data, tensor.value, tensor.end):
        if each.key == _DIMS and each.wire == _VARINT:
            found.dims.append(each.number)
        elif each.key == _DIMS and each.wire == _LENGTH:
            found.dims += _varints(data, each.value, each.end)
        elif each.key == _DATA_TYPE and each.wire == _VARINT:
            found.data_type = each.number
        elif each.key == _RAW_DATA and each.wire == _LENGTH:
            found.raw.append(each)
        else:
            found.is_plain &= each.key in (_NAME, _DOC) and each.wire == _LENGTH
    return found


def _fields(data: bytes, at: int, end: int) -> Iterator[_Field]:
    """The fields of the message at [at, end)."""
    while at < end:
        start = at
        tag, at = _varint(data, at, end)
        key, wire, number = tag >> 3, tag & 7, 0
        value = at
        if wire == _VARINT:
            number, at = _varint(data, at, end)
        elif wire == _LENGTH:
            length, value = _varint(data, at, end)
            at = value + length
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if wire == _EIGHT_BYTES else 4
        else:
            raise _UnusualError
        if at > end or not key:
            raise _UnusualError
        yield _Field(key, wire, start, value, at, number)


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number at ``at``, and where it ends: seven bits a byte, the lowest first."""
    number = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
    raise _UnusualError


def _varints(data: bytes, at: int, end: int) -> list[int]:
    found = list[int]()
    while at < end:
        number, at = _varint(data, at, end)
        found.append(number)
    return found


def _message(key: int, content: bytes) -> bytes:
    """The encoding of a field that is a message."""
    return _encoded(key << 3 | _LENGTH) + _encoded(len(content)) + content


def _encoded(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])
