"""A model for onnxruntime whose boundary numpy knows.

onnxruntime's Python interface takes and gives no arrays of bfloat16, float8 or integers of
4 bits. A copy of the model has such inputs and outputs in types that hold their values
exactly, with casts behind and before; their names say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from motet.runtime.element_types import NARROW, carried, numpy_dtype

_MARK = " as "


def widened(source: str | bytes) -> str | bytes:
    """``source`` (a file's path, or a model's bytes), or such a copy where one is needed."""
    import onnx

    if isinstance(source, str):
        model = onnx.load(source, load_external_data=False)
    else:
        model = onnx.load_from_string(source)
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in given and _type(info)]
    outputs = [info for info in model.graph.output if _type(info)]
    if not inputs and not outputs:
        return source
    if isinstance(source, str):
        onnx.load_external_data_for_model(model, str(Path(source).parent))
    casts = [_cast(info, info.type.tensor_type.elem_type, False) for info in inputs]
    nodes = [*casts, *model.graph.node]
    nodes += [_cast(info, _wide(info), True) for info in outputs]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for info in (*inputs, *outputs):
        name, wide = _marked(info.name, _type(info)), _wide(info)
        info.name, info.type.tensor_type.elem_type = name, wide
    return bytes(model.SerializeToString())


def _type(info: Any) -> str:
    """The narrow type of an input or output; empty for any other."""
    import onnx

    elem = info.type.tensor_type.elem_type
    if elem in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        return ""
    name = onnx.helper.tensor_dtype_to_np_dtype(elem).name
    return str(name) if name in NARROW else ""


def _wide(info: Any) -> int:
    import onnx

    carrier = numpy_dtype(NARROW[_type(info)].carrier)
    return int(onnx.helper.np_dtype_to_tensor_dtype(carrier))


def _cast(info: Any, to: int, leaves: bool) -> Any:
    import onnx

    names = [info.name, _marked(info.name, _type(info))]
    source, target = names if leaves else names[::-1]
    return onnx.helper.make_node("Cast", [source], [target], to=to)


def _marked(name: str, narrow: str) -> str:
    return f"{name}{_MARK}{narrow}"


def feeds(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """``inputs`` under the names, and in the types, that such a copy takes.

    Lists (sequences) and None (empty optionals) stay as they are.
    """
    return dict(_fed(name, value) for name, value in inputs.items())


def _fed(name: str, value: Any) -> tuple[str, Any]:
    if not isinstance(value, np.ndarray):
        return name, value
    narrow = value.dtype.name
    return (_marked(name, narrow) if narrow in NARROW else name), carried(value)


def run(reference: Any, names: Sequence[str], inputs: Mapping[str, Any]) -> list[Any]:
    """What an onnxruntime session of a ``widened`` model computes, in the model's own types."""
    marked = {
        output.name.rpartition(_MARK)[0]: output.name
        for output in reference.get_outputs()
        if output.name.rpartition(_MARK)[2] in NARROW
    }
    results = reference.run([marked.get(name, name) for name in names], feeds(inputs))
    return [
        value.astype(numpy_dtype(marked[name].rpartition(_MARK)[2])) if name in marked else value
        for name, value in zip(names, results, strict=True)
    ]
