"""Graph inputs that are fixed to a value: they become initialisers of the model.

Some uses of an operator need an input's value at compile time (axes, the shape of a
Reshape, k, pads, a trip count). ``values`` of a model gives it; the input then disappears
from the bundle's inputs, and whatever follows from it is computed at compile time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from motet.runtime.element_types import is_float, is_raw
from motet.runtime.errors import SpecError

from .dimensions import (
    ShapeText,
    declared_shape,
    graph_inputs,
    is_sequence,
    numpy_dtype,
    tensor_type,
)

FILE_MARK = "@"
NONE = "none"
_INITIALIZERS_ARE_CONSTANT = 4  # the IR version from which an initialiser need not be an input


def fix_inputs(model: onnx.ModelProto, values: Mapping[str, Any], label: str) -> None:
    """Make each input that ``values`` names a constant of the model, in place.

    values: name -> a number, nested lists of numbers, an array, or ``"@FILE.npy"``. A flat
        list takes the shape that the model declares where that has as many elements. A
        symbolic dimension of the input takes the value's size in every other input.
        ``"none"`` leaves an optional input empty.

    Raises
    ------
    SpecError
        For an unknown input, a value of another type, or one that does not fit the shape.
    """
    inputs = {info.name: info for info in graph_inputs(model.graph)}
    sizes: dict[str, int] = {}
    for name, value in values.items():
        if name not in inputs:
            raise SpecError(
                f"{label}: values.{name}: the model has no input of that name; "
                f"its inputs are {', '.join(inputs) or '(none)'}"
            )
        if is_none(value):
            _check_optional(inputs[name], label)
            continue
        array = fixed_array(inputs[name], value, label)
        _bind(sizes, declared_shape(inputs[name]) or (), array, f"{label}: values.{name}")
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        if model.ir_version >= _INITIALIZERS_ARE_CONSTANT:
            model.graph.input.remove(inputs[name])
    for info in (*model.graph.input, *model.graph.output):
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]


def is_none(value: Any) -> bool:
    """Whether a fixed value leaves an optional input empty."""
    return value is None or (isinstance(value, str) and value == NONE)


def _check_optional(info: onnx.ValueInfoProto, label: str) -> None:
    if not info.type.HasField("optional_type"):
        raise SpecError(f"{label}: values.{info.name}: is no optional, which alone can be {NONE}")


def fixed_array(info: onnx.ValueInfoProto, value: Any, label: str) -> NDArray[Any]:
    """``value`` as an array of the type and shape that input ``info`` declares."""
    where = f"{label}: values.{info.name}"
    if is_sequence(info):
        raise SpecError(f"{where}: is a sequence; only tensors can be fixed to a value")
    dtype = numpy_dtype(info, label)
    if isinstance(value, str):
        value = _read(value, where)
    array = _converted(value, onnx.helper.tensor_dtype_to_np_dtype(_element(info)), dtype, where)
    shape = declared_shape(info)
    if shape is None or _fits(array.shape, shape):
        return array
    fixed = [size for size in shape if isinstance(size, int)]
    if array.ndim <= 1 and len(fixed) == len(shape) and int(np.prod(fixed)) == array.size:
        return array.reshape(fixed)
    shown = "x".join(str(size) for size in shape) or "a scalar"
    raise SpecError(
        f"{where}: has shape {'x'.join(map(str, array.shape)) or '()'}, the input is {shown}"
    )


def _element(info: onnx.ValueInfoProto) -> int:
    tensor = tensor_type(info)
    return int(tensor.elem_type) if tensor is not None else onnx.TensorProto.UNDEFINED


def _fits(shape: tuple[int, ...], declared: ShapeText) -> bool:
    return len(shape) == len(declared) and all(
        isinstance(want, str) or size == want for size, want in zip(shape, declared, strict=True)
    )


def _converted(value: Any, dtype: Any, name: str, where: str) -> NDArray[Any]:
    """``value`` in the input's dtype; refuses what that would change."""
    try:
        given = np.asarray(value)
        given = given.view(dtype) if is_raw(given, name) else given
        array = given if given.dtype == dtype else given.astype(dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise SpecError(f"{where}: is no array of {name}: {error}") from error
    exact = not is_float(name)
    if exact and array.size and not np.array_equal(array.astype(object), given.astype(object)):
        raise SpecError(f"{where}: holds what {name} cannot hold")
    return array


def _read(text: str, where: str) -> NDArray[Any]:
    """The array of ``@FILE.npy``."""
    if not text.startswith(FILE_MARK):
        raise SpecError(f'{where}: write numbers, or "@FILE.npy" ("none" for an empty optional)')
    path = Path(text.removeprefix(FILE_MARK))
    try:
        loaded = np.load(path, allow_pickle=False)
    except OSError as error:
        raise SpecError(f"{where}: cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise SpecError(f"{where}: {path} is no .npy file of a plain array") from error
    if not isinstance(loaded, np.ndarray):
        raise SpecError(f"{where}: {path} holds several arrays: give a .npy file")
    return loaded


def _bind(sizes: dict[str, int], declared: ShapeText, array: NDArray[Any], where: str) -> None:
    """Note the sizes of symbolic dimensions; equal names are equal dimensions."""
    for dim, size in zip(declared, array.shape, strict=False):
        if isinstance(dim, str) and sizes.setdefault(dim, size) != size:
            raise SpecError(
                f"{where}: dimension '{dim}' is {sizes[dim]} elsewhere, but {size} here"
            )
