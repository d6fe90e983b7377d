"""Reading an ONNX file, and its weights that lie in other files beside it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from motet.runtime.element_types import NARROW
from motet.runtime.errors import ModelError

from .fields import check_fields
from .limits import check_elements
from .weights_apart import HERE, parse_apart, values_here


@dataclass(frozen=True)
class ReadModel:
    """A parsed file. ``label`` is how messages call it.

    data: the file's bytes where weights were left in them (``weights_apart``).
    """

    path: Path
    label: str
    sha256: str
    proto: onnx.ModelProto
    data: bytes = field(default=b"", repr=False)

    def array(self, tensor: onnx.TensorProto) -> NDArray[Any]:
        """The values of an initialiser, from the file or from external data.

        Raises
        ------
        ModelError
            Where the stored values do not fill the declared shape.
        """
        try:
            here = values_here(tensor, self.data)
            if here is not None:
                return here
            if is_external(tensor):
                return np.asarray(onnx.numpy_helper.to_array(tensor, str(self.path.parent)))
            return np.asarray(onnx.numpy_helper.to_array(tensor))
        except Exception as error:  # onnx raises several kinds
            raise ModelError(
                f"{self.label}: initializer '{tensor.name}' cannot be read: {error}"
            ) from error


def read_model(path: Path, *, apart: bool = False) -> ReadModel:
    """Read and parse ``path``; external data is checked but not loaded.

    apart: leave large weights where they are, for ``ReadModel.array`` to find.

    Raises
    ------
    ModelError
        For a missing, empty, truncated or foreign file, a model without nodes, and bad
        external data.
    """
    label = path.name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        proto = parse_apart(data) if apart else onnx.ModelProto.FromString(data)
    except (DecodeError, ValueError) as error:
        raise ModelError(
            f"{path}: is not an ONNX model, or is truncated ({len(data)} bytes): export it again"
        ) from error
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelError(f"{path}: holds no graph: it is not an ONNX model, or is truncated")
    if not proto.graph.output:
        raise ModelError(f"{path}: its graph has no outputs")
    check_fields(proto, label)
    model = ReadModel(path, label, hashlib.sha256(data).hexdigest(), proto, data if apart else b"")
    for tensor in proto.graph.initializer:
        check_elements(tensor.dims, f"{label}: initializer '{tensor.name}'")
        if is_external(tensor) and not _is_here(tensor):
            _check_external(model, tensor)
    return model


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's values lie in another file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _is_here(tensor: onnx.TensorProto) -> bool:
    return any(each.key == "location" and each.value == HERE for each in tensor.external_data)


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes that the declared shape and type need; small types are packed without gaps."""
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    narrow = NARROW.get(dtype.name)
    bits = dtype.itemsize * 8 if narrow is None else narrow.bits
    return int(-(-np.prod([int(d) for d in tensor.dims], dtype=object) * bits // 8))


def _check_external(model: ReadModel, tensor: onnx.TensorProto) -> None:
    """Refuse external data that is absent, outside the model's folder, or too short."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    where = f"{model.label}: external data of initializer '{tensor.name}'"
    location = entries.get("location", "")
    folder = model.path.parent.resolve()
    try:
        file = (folder / location).resolve()
        exists = file.is_file()
    except (OSError, ValueError) as error:  # too long, or a zero byte
        raise ModelError(f"{where}: location '{location}' is no file name: {error}") from error
    if not location or Path(location).is_absolute() or not file.is_relative_to(folder):
        raise ModelError(f"{where}: location '{location}' is not inside the model's folder")
    if not exists:
        raise ModelError(f"{where}: file '{location}' is missing beside the model")
    try:
        offset = int(entries.get("offset", "0") or 0)
        length = int(entries.get("length", "0") or 0) or tensor_bytes(tensor)
    except ValueError as error:
        raise ModelError(f"{where}: its offset or length is no number") from error
    size = file.stat().st_size
    if offset < 0 or offset + max(length, tensor_bytes(tensor)) > size:
        raise ModelError(
            f"{where}: file '{location}' has {size} bytes, but {offset + length} are declared"
        )
    if length < tensor_bytes(tensor):
        raise ModelError(
            f"{where}: {length} bytes declared, but its shape needs {tensor_bytes(tensor)}"
        )
