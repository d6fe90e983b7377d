"""Narrow element types (``runtime.element_types``) while a graph is imported.

Every value knows its ONNX element type. Converters see narrow tensors in their carriers;
what a node computes is given the element types that ONNX infers for its outputs, and is
rounded to their values where the operator does more than move data. (Rounding too often
costs time only: a value that the type has stays itself.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import onnx
from tvm import relax

from motet.runtime.element_types import NARROW, carrier_dtype, numpy_dtype, stored_dtype
from motet.runtime.element_types import carried as carried_array
from motet.targets.operators.narrow import decode, encode, round_to

from .domains import Opsets
from .functions import schema_of
from .node import Node
from .types import dtype_of, numpy_name, type_proto
from .values import Constant, EmptyOptional, Symbolic, Tensor, TensorSequence, Value, constant

_EXACT_NAMES = """
    BitCast Cast CastLike CenterCropPad Compress Concat ConcatFromSequence ConstantOfShape
    DepthToSpace Dropout Expand EyeLike Flatten Gather GatherElements GatherND Identity Max
    MaxPool Min Neg NonZero OneHot Optional OptionalGetElement OptionalHasElement Pad
    QuantizeLinear ReduceMax ReduceMin Relu Reshape ReverseSequence SequenceAt
    SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength Slice
    SpaceToDepth Split SplitToSequence Squeeze TensorScatter Tile TopK Transpose Trilu Unique
    Unsqueeze Where
"""
_EXACT = frozenset(_EXACT_NAMES.split())
"""Operators whose results have the values of their type as they are: they move data, choose
among values, or round by a rule of their own."""
_SEQUENCES = ("Sequence", "Optional")
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


def is_concerned(values: Sequence[Value | None], attributes: Mapping[str, Any]) -> bool:
    """Whether a node reads values of a narrow type or is told to make some."""
    if any(v is not None and dtype_of(v) in NARROW for v in values):
        return True
    if any(_is_narrow(attributes[name]) for name in _TYPE_ATTRIBUTES if name in attributes):
        return True
    value = attributes.get("value")
    return isinstance(value, onnx.TensorProto) and _is_narrow(value.data_type)


_ELEMENTS = frozenset(
    elem
    for elem in onnx.TensorProto.DataType.values()
    if elem != onnx.TensorProto.UNDEFINED and numpy_name(elem) in NARROW
)


def _is_narrow(elem: Any) -> bool:
    return isinstance(elem, int) and elem in _ELEMENTS


def carried(view: Node) -> list[Value | None]:
    """The inputs of a node with narrow constants in their carriers.

    Operators of sequences and optionals pass values on, and get them as they are.
    """
    if view.op_type.startswith(_SEQUENCES):
        return list(view.inputs)
    return [_carried(value) for value in view.inputs]


def _carried(value: Value | None) -> Value | None:
    if isinstance(value, Constant) and value.array.dtype.name in NARROW:
        return Constant(carried_array(value.array))
    return value


def output_types(node: onnx.NodeProto, view: Node, opsets: Opsets) -> list[str]:
    """The element type of every output; empty where ONNX does not say."""
    types = _inferred(node, view, opsets)
    return [_element(types.get(name, onnx.TypeProto())) if name else "" for name in node.output]


def _element(kind: onnx.TypeProto) -> str:
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = getattr(kind, kind.WhichOneof("value")).elem_type
    elem = kind.tensor_type.elem_type
    return numpy_name(elem) if elem else ""


def _inferred(node: onnx.NodeProto, view: Node, opsets: Opsets) -> dict[str, onnx.TypeProto]:
    schema = schema_of(view.domain, view.op_type, view.opset)
    if schema is None:
        return _alike(node, view)
    types = {n: _shapeless(v) for n, v in zip(node.input, view.given, strict=False) if n}
    imports = [onnx.helper.make_opsetid(domain, v) for domain, v in opsets.versions.items()]
    try:
        inferred: dict[str, onnx.TypeProto] = onnx.shape_inference.infer_node_outputs(
            schema, node, types, opset_imports=imports
        )
    except Exception as error:  # InferenceError, or RuntimeError of the bindings
        view.refuse(f"onnx infers no types for it: {' '.join(str(error).split())}")
    return inferred


def _shapeless(value: Value | None) -> onnx.TypeProto:
    """The type of a value without its shape, which inference would check again."""
    kind = type_proto(value)
    if kind.HasField("tensor_type"):
        kind.tensor_type.ClearField("shape")
    return kind


def _alike(node: onnx.NodeProto, view: Node) -> dict[str, onnx.TypeProto]:
    """For an operator that onnx does not know: its inputs' one narrow type, where they agree."""
    types = {dtype_of(v) for v in view.given if v is not None}
    narrow = sorted(types & NARROW.keys())
    if len(narrow) != 1 or carrier_dtype(narrow[0]) in types:
        view.refuse(f"inputs of the types {', '.join(sorted(types))}")
    kind = type_proto(next(v for v in view.given if v is not None and dtype_of(v) == narrow[0]))
    return {name: kind for name in node.output if name}


def typed(view: Node, values: Sequence[Value], types: Sequence[str]) -> list[Value]:
    """The outputs of a node with their element types, rounded where it computes."""
    exact = _is_exact(view)
    named = [*types, *[""] * (len(values) - len(types))]
    return [_typed(view, v, name, exact) for v, name in zip(values, named, strict=False)]


def _is_exact(view: Node) -> bool:
    if view.op_type in ("ScatterElements", "ScatterND"):
        return bool(view.attr("reduction", "none") == "none")
    return view.domain in ("", "com.microsoft") and view.op_type in _EXACT


def _typed(view: Node, value: Value, name: str, exact: bool) -> Value:
    if name not in NARROW or isinstance(value, (EmptyOptional, Symbolic)):
        return value
    if isinstance(value, TensorSequence):
        items = tuple(_typed(view, item, name, exact) for item in value.items)
        return TensorSequence(items, name)
    if dtype_of(value) == name:
        return value
    if isinstance(value, Constant):
        return Constant(value.array.astype(numpy_dtype(name)))
    if view.dtype(value.expr) != carrier_dtype(name):
        if view.domain:  # whose types are a guess
            return value
        view.refuse(f"a {view.dtype(value.expr)} result where ONNX has {name}")
    if exact:
        return replace(value, element=name)
    if not NARROW[name].is_float:
        view.refuse(f"arithmetic in {name}")
    return Tensor(view.emit(round_to(value.expr, name, saturate=False)), name)


def recast(values: Sequence[Value], types: Sequence[str]) -> list[Value]:
    """Folded constants in the element types of their outputs."""
    named = [*types, *[""] * (len(values) - len(types))]
    return [
        Constant(value.array.astype(numpy_dtype(name)))
        if isinstance(value, Constant) and name and dtype_of(value) != name
        else value
        for value, name in zip(values, named, strict=False)
    ]


def received(builder: relax.BlockBuilder, value: Value, elements: Mapping[Any, str]) -> Value:
    """A graph input in its carrier; ``elements``: parameters that arrive as narrow bits."""
    if isinstance(value, TensorSequence):
        items = tuple(received(builder, item, elements) for item in value.items)
        return TensorSequence(items, value.dtype)
    if isinstance(value, Tensor) and value.expr in elements:
        name = elements[value.expr]
        return Tensor(builder.emit(decode(value.expr, name)), name)
    return value


def sent(builder: relax.BlockBuilder, value: Value) -> Value:
    """A graph output as bytes: a narrow one in the bits of its type, which it still names."""
    if isinstance(value, TensorSequence):
        return TensorSequence(tuple(sent(builder, item) for item in value.items), value.dtype)
    name = dtype_of(value)
    if name not in NARROW:
        return value
    if isinstance(value, Constant):
        return Tensor(constant(value.array.view(stored_dtype(name))), name)
    assert isinstance(value, Tensor)
    return Tensor(builder.emit(encode(value.expr, name)), name)
