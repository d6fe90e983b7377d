"""Operators that onnx defines by a function body, where no converter exists.

The body is taken from the operator's schema, for the version of the operator that the
model's opset selects, and is converted in place: its calls carry the name of the node
that it replaces. Some bodies depend on the input types, which are known by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import defs


def schema_of(op_type: str, opset: int) -> Any:
    """The schema of a default-domain operator at ``opset``; None where there is none."""
    try:
        return defs.get_schema(op_type, opset)
    except defs.SchemaError:
        return None


def has_body(op_type: str, opset: int) -> bool:
    """Whether onnx defines the operator by a function body."""
    schema = schema_of(op_type, opset)
    if schema is None or schema.deprecated:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def body_operators(op_type: str, opset: int) -> set[str]:
    """Operator types in a context-free body (empty for one that depends on the types)."""
    schema = schema_of(op_type, opset)
    if schema is None or not schema.has_function:
        return set()
    return {node.op_type for node in schema.function_body.node}


def body_of(
    node: onnx.NodeProto, opset: int, types: Sequence[onnx.TypeProto]
) -> tuple[onnx.FunctionProto, int] | None:
    """The function body of ``node`` and the opset that it is written in."""
    schema = schema_of(node.op_type, opset)
    if schema is None:
        return None
    if schema.has_function:
        version = _best(schema.function_opset_versions, opset)
        data = schema.get_function_with_opset_version(version)
    elif schema.has_context_dependent_function:
        version = _best(schema.context_dependent_function_opset_versions, opset)
        data = schema.get_context_dependent_function_with_opset_version(
            version, node.SerializeToString(), [t.SerializeToString() for t in types]
        )
    else:
        return None
    function = onnx.FunctionProto()
    function.ParseFromString(data)
    own = [entry.version for entry in function.opset_import if entry.domain in ("", "ai.onnx")]
    return function, own[0] if own else version


def _best(versions: Sequence[int], opset: int) -> int:
    """The newest version that the model's opset admits, else the oldest there is."""
    return max((v for v in versions if v <= opset), default=min(versions))


def bound_node(inner: onnx.NodeProto, outer: onnx.NodeProto, opset: int) -> onnx.NodeProto:
    """``inner`` of a body with its references to attributes of ``outer`` filled in."""
    given = {a.name: a for a in outer.attribute}
    schema = schema_of(outer.op_type, opset)
    result = onnx.NodeProto()
    result.CopyFrom(inner)
    del result.attribute[:]
    for attribute in inner.attribute:
        if not attribute.ref_attr_name:
            result.attribute.append(attribute)
            continue
        source = given.get(attribute.ref_attr_name)
        if source is None and schema is not None:
            default = schema.attributes.get(attribute.ref_attr_name)
            source = default.default_value if default is not None else None
        if source is not None and source.type != onnx.AttributeProto.UNDEFINED:
            bound = onnx.AttributeProto()
            bound.CopyFrom(source)
            bound.name = attribute.name
            result.attribute.append(bound)
    return result
