"""ONNX files read whole and written whole: weights included, wherever they lie.

A file that is too large for one protobuf message (2 GB) has its weights beside it; so has a
written one whose original had.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx.external_data_helper import load_external_data_for_model

from motet.compiler.frontend.reading import is_external, read_model
from motet.compiler.frontend.weightless import is_large, without_weights
from motet.runtime.atomic import write_atomically
from motet.runtime.errors import ModelError

LARGEST_INLINE = 2**31 - 2**20
"""Bytes of weights up to which a file holds them itself; protobuf's limit is 2^31."""


def read_whole(path: Path) -> tuple[onnx.ModelProto, bool]:
    """The model with all weights loaded, and whether any lay in another file.

    Raises ``ModelError`` for a missing, truncated or foreign file, and bad external data.
    """
    read = read_model(path)
    external = any(is_external(tensor) for tensor in read.proto.graph.initializer)
    if external:
        try:
            load_external_data_for_model(read.proto, str(path.parent))
        except Exception as error:  # onnx raises several kinds
            raise ModelError(f"{path}: its external data cannot be read: {error}") from error
    return read.proto, external


def write_whole(model: onnx.ModelProto, path: Path, beside: bool = False) -> Path | None:
    """Write ``model`` to ``path``, whole or not at all; ``model`` is left as it is.

    beside: put large weights into ``<path>.data``, as is done in any case where they are too
    many for one file. Returns the path of that file, None where there is none.

    Raises ``ModelError`` where it cannot be written.
    """
    data = path.with_name(path.name + ".data")
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    try:
        if not beside and size < LARGEST_INLINE:
            write_atomically(path, [model.SerializeToString()])
            return None
        written, parts = _with_data_beside(model, data.name)
        write_atomically(data, parts)
        write_atomically(path, [written.SerializeToString()])
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ModelError(f"cannot write {path}: {why}") from error
    return data


def _with_data_beside(model: onnx.ModelProto, location: str) -> tuple[onnx.ModelProto, list[bytes]]:
    """A copy whose large tensors point into ``location``, and that file's bytes."""
    copy, parts, offset = without_weights(model), list[bytes](), 0
    for tensor, kept in zip(model.graph.initializer, copy.graph.initializer, strict=True):
        if not is_large(tensor):
            continue
        raw = tensor.raw_data
        kept.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", len(raw))):
            kept.external_data.add(key=key, value=str(value))
        padding = -len(raw) % 64
        parts += [raw, bytes(padding)]
        offset += len(raw) + padding
    return copy, parts
