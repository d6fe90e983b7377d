"""Declared shapes and types against what onnx's inference finds.

A model that states a wrong shape for a value would be compiled for one shape and run
with another, so every contradiction between fixed dimensions is refused.
"""

from __future__ import annotations

import re

import onnx
from onnx import shape_inference

from motet.runtime.errors import ModelError

from .weightless import without_weights

Declared = dict[str, onnx.ValueInfoProto]


def check_shapes(model: onnx.ModelProto, label: str) -> None:
    """Infer shapes strictly, from the inputs and weights alone, and compare.

    Raises
    ------
    ModelError
        For a node that inference refuses, and for a declared shape or type that
        contradicts the inferred one; names the tensor.
    """
    bare = without_weights(model)
    declared = {info.name: info for info in (*model.graph.value_info, *model.graph.output)}
    del bare.graph.value_info[:]
    for info in bare.graph.output:
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")
    _write_defaults(bare)
    try:
        inferred = _inferred(bare)
    except Exception as error:  # InferenceError, or RuntimeError of the bindings
        raise ModelError(f"{label}: shape inference refuses it: {_brief(error)}") from error
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        if info.name in declared:
            _compare(declared[info.name], info, label)


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with inferred shapes; raises what onnx raises.

    Where two branches of an ``If`` compute small values of one name, onnx mixes these up;
    its shapes are then inferred from the types alone.
    """
    try:
        return shape_inference.infer_shapes(
            model, check_type=True, strict_mode=True, data_prop=True
        )
    except Exception as error:
        if "already exists" not in str(error):
            raise
        return shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


def _write_defaults(model: onnx.ModelProto) -> None:
    """Write out defaults that inference does not supply itself, or takes for others.

    Of STFT it takes ``onesided`` for 0 where it is left out; the operator's default is 1.
    """
    for node in model.graph.node:
        if node.op_type == "STFT" and not any(a.name == "onesided" for a in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("onesided", 1))
        if node.op_type == "MeanVarianceNormalization" and not node.attribute:
            node.attribute.append(onnx.helper.make_attribute("axes", [0, 2, 3]))


def _brief(error: Exception) -> str:
    """The inference error without its list of C++ places."""
    text = " ".join(str(error).split())
    return re.sub(r"\[(Shape|Type)InferenceError\]\s*", "", text)


def _compare(declared: onnx.ValueInfoProto, found: onnx.ValueInfoProto, label: str) -> None:
    a, b = declared.type.tensor_type, found.type.tensor_type
    if a.elem_type and b.elem_type and a.elem_type != b.elem_type:
        names = [onnx.TensorProto.DataType.Name(t.elem_type) for t in (a, b)]
        raise ModelError(
            f"{label}: tensor '{declared.name}' is declared {names[0]} but computed as {names[1]}"
        )
    if not a.HasField("shape") or not b.HasField("shape"):
        return
    shapes = [[_text(dim) for dim in t.shape.dim] for t in (a, b)]
    same_rank = len(shapes[0]) == len(shapes[1])
    if same_rank and not any(
        isinstance(x, int) and isinstance(y, int) and x != y for x, y in zip(*shapes, strict=True)
    ):
        return
    raise ModelError(
        f"{label}: tensor '{declared.name}' is declared with shape {shapes[0]}, "
        f"but its shape is {shapes[1]}: correct the model's value_info or output"
    )


def _text(dim: onnx.TensorShapeProto.Dimension) -> int | str:
    return int(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?"
