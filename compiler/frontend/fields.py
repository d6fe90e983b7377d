"""The numbers that an ONNX file holds as plain integers, and names that must differ.

Element types, dimensions and operator set versions are integers in the file: onnx's Python
functions take any for granted and raise whatever follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from motet.runtime.errors import ModelError

MAX_RANK = 32
"""More dimensions than numpy's kernels, and anybody's model, have."""
MAX_VERSION = 2**31 - 1
_ELEMENT_TYPES = frozenset(onnx.TensorProto.DataType.values())


def check_fields(model: onnx.ModelProto, label: str) -> None:
    """Refuse numbers that ONNX gives no meaning; ``label`` is how messages call the model.

    Raises
    ------
    ModelError
        Names the tensor, the node or the operator set.
    """
    for entry in model.opset_import:
        if not 0 < entry.version <= MAX_VERSION:
            domain = entry.domain or "ai.onnx"
            raise ModelError(f"{label}: operator set '{domain}' has no version {entry.version}")
    for info in _value_infos(model):
        _check_tensor_type(info, label)
    _check_output_names([info.name for info in model.graph.output], label)
    for info in model.graph.input:
        if info.type.HasField("tensor_type") and not info.type.tensor_type.elem_type:
            raise ModelError(f"{label}: input '{info.name}' has no element type")
    for node in (*_nodes(model), *(node for graph in _graphs(model) for node in graph.node)):
        _check_node(node, label)
    for node, attribute in _attributes(model.graph.node):
        _check_attribute(attribute, f"{label}: node '{node.name}' ({node.op_type})")
    for tensor, what in _tensors(model):
        _check_tensor(tensor, f"{label}: {what}")


def _check_output_names(names: list[str], label: str) -> None:
    """Refuse what cannot be told apart in a mapping from names to results."""
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise ModelError(f"{label}: output '{twice}' is declared twice")


def _check_node(node: onnx.NodeProto, label: str) -> None:
    """Refuse names that are no text, and an output count on which onnx's inference aborts."""
    for text in (node.op_type, node.domain, node.name, *node.input, *node.output):
        if not isinstance(text, str):  # protobuf gives bytes that are no UTF-8 as they are
            raise ModelError(f"{label}: a node has the name {text!r}, which is no text")
    wanted = [a.i for a in node.attribute if a.name == "num_outputs"]
    if node.op_type == "Split" and wanted and wanted[0] != len(node.output):
        raise ModelError(
            f"{label}: node '{node.name}' (Split) has {len(node.output)} outputs, but its "
            f"num_outputs is {wanted[0]}"
        )


def _check_attribute(attribute: onnx.AttributeProto, what: str) -> None:
    """Refuse an attribute without a value of its own; only those in functions may refer."""
    if attribute.ref_attr_name:
        raise ModelError(
            f"{what}: attribute '{attribute.name}' refers to '{attribute.ref_attr_name}' "
            "of a function, but is in none"
        )
    if attribute.type == onnx.AttributeProto.UNDEFINED:
        raise ModelError(f"{what}: attribute '{attribute.name}' has no type")


def _check_tensor_type(info: onnx.ValueInfoProto, label: str) -> None:
    tensor = info.type.tensor_type
    _check_element_type(tensor.elem_type, f"{label}: '{info.name}'")
    _check_rank(len(tensor.shape.dim), f"{label}: '{info.name}'")


def _check_tensor(tensor: onnx.TensorProto, what: str) -> None:
    _check_element_type(tensor.data_type, what)
    if not tensor.data_type:
        raise ModelError(f"{what} has no element type")
    _check_rank(len(tensor.dims), what)
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"{what} has the shape {list(tensor.dims)}: no size is negative")


def _check_element_type(number: int, what: str) -> None:
    if number not in _ELEMENT_TYPES:
        raise ModelError(f"{what} has the element type {number}, which ONNX does not have")


def _check_rank(rank: int, what: str) -> None:
    if rank > MAX_RANK:
        raise ModelError(f"{what} has {rank} dimensions, more than the limit of {MAX_RANK}")


def _value_infos(model: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    for graph in _graphs(model):
        yield from (*graph.input, *graph.output, *graph.value_info)


def _tensors(model: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, str]]:
    """Stored tensors, and how a message calls each."""
    for graph in _graphs(model):
        for tensor in graph.initializer:
            yield tensor, f"initializer '{tensor.name}'"
    for node, attribute in _attributes(_nodes(model)):
        for tensor in [attribute.t] if attribute.HasField("t") else attribute.tensors:
            yield tensor, f"attribute '{attribute.name}' of node '{node.name}' ({node.op_type})"


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The model's graph and those inside attributes, functions included."""
    yield model.graph
    for _, attribute in _attributes(_nodes(model)):
        yield from [attribute.g] if attribute.HasField("g") else attribute.graphs


def _nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes of the graph and of the model's own functions."""
    return [*model.graph.node, *(node for function in model.functions for node in function.node)]


def _attributes(
    nodes: Iterable[onnx.NodeProto],
) -> Iterator[tuple[onnx.NodeProto, onnx.AttributeProto]]:
    """Every attribute with its node, however deep."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        for attribute in node.attribute:
            yield node, attribute
            for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                waiting += graph.node
