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

from .domains import DEFAULT_DOMAIN, Opsets, domain_of


def schema_of(domain: str, op_type: str, opset: int) -> Any:
    """The schema of an operator at ``opset`` of its domain; None where onnx has none."""
    try:
        return defs.get_schema(op_type, opset, domain)
    except defs.SchemaError:
        return None


def has_body(domain: str, op_type: str, opset: int) -> bool:
    """Whether onnx defines the operator by a function body."""
    schema = schema_of(domain, op_type, opset)
    if schema is None or schema.deprecated:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def body_operators(domain: str, op_type: str, opset: int) -> set[tuple[str, str]]:
    """Domains and types in a context-free body (empty for one that depends on the types)."""
    schema = schema_of(domain, op_type, opset)
    if schema is None or not schema.has_function:
        return set()
    return {(node.domain, node.op_type) for node in schema.function_body.node}


def body_of(
    node: onnx.NodeProto, opset: int, types: Sequence[onnx.TypeProto]
) -> tuple[onnx.FunctionProto, Opsets] | None:
    """The function body of ``node`` and the operator sets that it is written in.

    ``opset`` is the version of the node's own domain; ``types`` are of its inputs.
    """
    schema = schema_of(domain_of(node), node.op_type, opset)
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
    # The bodies of the preview domain use default operators without importing them.
    newest = Opsets({DEFAULT_DOMAIN: defs.onnx_opset_version(), domain_of(node): version})
    return function, newest.updated(function.opset_import)


def _best(versions: Sequence[int], opset: int) -> int:
    """The newest version that the model's opset admits, else the oldest there is."""
    return max((v for v in versions if v <= opset), default=min(versions))


def bound_node(inner: onnx.NodeProto, outer: onnx.NodeProto, opset: int) -> onnx.NodeProto:
    """``inner`` of a body with its references to attributes of ``outer`` filled in."""
    given = {a.name: a for a in outer.attribute}
    schema = schema_of(domain_of(outer), outer.op_type, opset)
    result = onnx.NodeProto()
    result.CopyFrom(inner)
    del result.attribute[:]
    for attribute in inner.attribute:
        if not attribute.ref_attr_name:
            result.attribute.append(attribute)
            if attribute.HasField("g"):
                _bind_graph(result.attribute[-1].g, outer, opset)
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


def _bind_graph(graph: onnx.GraphProto, outer: onnx.NodeProto, opset: int) -> None:
    """The references of all nodes of ``graph`` filled in, in place."""
    for index, inner in enumerate(graph.node):
        bound = bound_node(inner, outer, opset)
        graph.node[index].CopyFrom(bound)
