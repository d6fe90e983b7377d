"""Calls of the functions that quantise vectors (``vector_functions``), read back from a file.

Only what is exactly ours is read: the body that ``vector_function`` makes, and attributes that
``call_attributes`` gives for some type. What differs is a function like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto

from motet.compiler.vector_functions import (
    DOMAIN,
    ONE_LEVEL,
    OPSET,
    PAPER,
    TWO_LEVELS,
    call_attributes,
    vector_function,
)
from motet.runtime.errors import SpecError
from motet.targets.quantized.types import QuantType

NAMES = (ONE_LEVEL, TWO_LEVELS, PAPER)
_FIELDS = ("input", "output", "attribute", "node")


@dataclass(frozen=True)
class VectorCall:
    """What a call quantises to: vectors along ``axis``, of a size that lacks ``missing``
    elements to whole vectors.
    """

    axis: int
    kind: QuantType
    paper: bool
    missing: int


def read_call(name: str, attributes: Mapping[str, Any]) -> VectorCall | None:
    """The call of function ``name`` with ``attributes``; None where they say something else."""
    try:
        found = _stated(name, attributes)
        vector, missing = found.kind.vector, found.missing
        wanted = call_attributes(found.kind, found.axis, -missing % vector)
        used = vector_function(name).attribute
        same = all(_plain(attributes[key]) == wanted[key] for key in used)
    except (KeyError, IndexError, TypeError, ValueError, SpecError):
        return None
    return found if same and 0 <= missing < vector and found.axis >= 0 else None


def _stated(name: str, attributes: Mapping[str, Any]) -> VectorCall:
    signed = int(attributes["element"]) == TensorProto.INT8
    largest, least = int(attributes["largest"]), int(attributes["least"])
    scales = None if name == ONE_LEVEL else int(attributes["largest_scale"]).bit_length()
    kind = QuantType(
        largest.bit_length() + signed, signed, "vector", int(attributes["block_size"]), scales,
        not signed or least == -largest,
    )  # fmt: skip
    missing = int(list(attributes["pads"])[1])
    return VectorCall(int(attributes["axis"]), kind, name == PAPER, missing)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) or hasattr(value, "extend") else value


def vector_functions_in(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """Domain and name of the model's functions that are ours, where every call can be read."""
    ours = {f.name for f in model.functions if f.domain == DOMAIN and _is_ours(f)}
    single = {each.name for each in model.graph.initializer if _is_one(each)}
    for node in _nodes(model.graph):
        if node.domain == DOMAIN and node.op_type in ours and not _is_read(node, single):
            ours.remove(node.op_type)
    inner = (node for f in model.functions for node in f.node)
    nested = {node.op_type for node in inner if node.domain == DOMAIN}
    return [(DOMAIN, name) for name in NAMES if name in ours - nested]


def _is_ours(function: onnx.FunctionProto) -> bool:
    if function.name not in NAMES:
        return False
    made = vector_function(function.name)
    imports = [(each.domain, each.version) for each in function.opset_import]
    same = all(list(getattr(function, key)) == list(getattr(made, key)) for key in _FIELDS)
    return same and ("", OPSET) in imports


def _is_read(node: onnx.NodeProto, single: set[str]) -> bool:
    """Whether attributes are ours and gamma, where there is one, is a constant of one element."""
    if any(attribute.ref_attr_name for attribute in node.attribute):
        return False
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    gammas = list(node.input[1:])
    return read_call(node.op_type, given) is not None and set(gammas) <= single


def _is_one(tensor: onnx.TensorProto) -> bool:
    size = 1
    for extent in tensor.dims:
        size *= extent
    return size == 1 and tensor.data_type == TensorProto.FLOAT


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)
