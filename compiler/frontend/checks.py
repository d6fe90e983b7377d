"""Everything that is checked before a model is imported, in the order it is checked.

Each problem is one ``ModelError`` that names the file and the node or tensor, because
what comes after (onnx's checker, TVM) either says less or does not notice at all.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import defs, inliner

from motet.compiler.vector_calls import vector_functions_in
from motet.runtime.errors import ModelError, UnsupportedOperatorError

from . import old_opsets
from .contributed import adopt_contributed
from .dimensions import (
    declared_shape,
    graph_inputs,
    name_dimensions,
    numpy_dtype,
    override_shapes,
    tensor_type,
)
from .domains import DEFAULT_DOMAIN, Opsets, domain_of
from .fixed_inputs import fix_inputs
from .functions import schema_of
from .inference import check_shapes
from .limits import check_elements, check_total
from .order import sorted_nodes
from .ports import grouped_shapes
from .reading import ReadModel, is_external, tensor_bytes
from .registry import registered
from .supported import all_nodes, unsupported, unsupported_message
from .weightless import is_large, without_weights


def check_model(
    read: ReadModel,
    shapes: Mapping[str, Sequence[int | str]],
    values: Mapping[str, Any] = MappingProxyType({}),
) -> onnx.ModelProto:
    """A checked copy: functions inlined, nodes sorted, ``shapes`` and ``values`` applied."""
    model = onnx.ModelProto()
    model.CopyFrom(read.proto)
    label = read.label
    model = _modernised(model, label)
    opsets = operator_sets(model, label)
    model = _inlined(model, label)
    opsets = adopt_contributed(model, opsets, label)
    name_dimensions(model.graph)
    _check_values(model.graph, label)
    _check_operators(model.graph, opsets, label)
    sort_graph(model.graph, set(), label)
    override_shapes(model, grouped_shapes(model.graph, shapes), label)
    fix_inputs(model, values, label)
    _check_sizes(model.graph, label)
    run_checker(model, label)
    check_shapes(model, label)
    return model


def _modernised(model: onnx.ModelProto, label: str) -> onnx.ModelProto:
    """The model, converted where its opset is too old for the converters."""
    old_opsets.declare_opset(model)
    if not old_opsets.is_old(model):
        return model
    _check_values(model.graph, label)
    sort_graph(model.graph, set(), label)
    old_opsets.convert(model, label)
    return model


def operator_sets(model: onnx.ModelProto, label: str) -> Opsets:
    """What the model imports; refuses no, too old, and too new a default operator set."""
    opsets = Opsets({}).updated(model.opset_import)
    newest = defs.onnx_opset_version()
    if not opsets.has(DEFAULT_DOMAIN):
        raise ModelError(f"{label}: imports no version of the default operator set (ai.onnx)")
    if opsets.default < old_opsets.MIN_OPSET:
        raise ModelError(f"{label}: there is no opset {opsets.default}: export it again")
    if opsets.default > newest:
        raise ModelError(
            f"{label}: opset {opsets.default} is newer than the installed onnx knows ({newest}): "
            "install a newer onnx"
        )
    return opsets


def _inlined(model: onnx.ModelProto, label: str) -> onnx.ModelProto:
    """The model with its own functions replaced by their bodies, but for those that a user
    converts and those that quantise vectors.
    """
    if not model.functions:
        return model
    own = [(f.domain, f.name) for f in model.functions if (f.domain, f.name) in registered()]
    own += [each for each in vector_functions_in(model) if each not in own]
    try:
        if own:
            return inliner.inline_selected_functions(model, own, exclude=True)
        return inliner.inline_local_functions(model, convert_version=True)
    except Exception as error:  # the inliner raises RuntimeError and its own
        raise ModelError(f"{label}: its local functions cannot be inlined: {error}") from error


def _check_operators(graph: onnx.GraphProto, opsets: Opsets, label: str) -> None:
    """Refuse operators of unknown domains, and names that onnx does not know at this opset."""
    found = unsupported(graph, opsets)
    if any("::" in operator for operator, _ in found):
        raise UnsupportedOperatorError(unsupported_message(found, label))
    unknown = [
        (node.op_type, name)
        for name, node in all_nodes(graph)
        if not domain_of(node) and not _is_known(node.op_type, opsets.default)
    ]
    if unknown:
        message = unsupported_message(unknown, label)
        raise UnsupportedOperatorError(
            f"{message} (ONNX has none of that name in opset {opsets.default})"
        )


def _is_known(op_type: str, opset: int) -> bool:
    schema = schema_of(DEFAULT_DOMAIN, op_type, opset)
    return schema is not None and not schema.deprecated


def _check_values(graph: onnx.GraphProto, label: str) -> None:
    """Refuse values defined twice or not at all, and tensors of strings."""
    seen: dict[str, str] = {}
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.STRING:
            raise ModelError(f"{label}: initializer '{tensor.name}' is a string tensor")
        if seen.setdefault(tensor.name, "an initializer") and not tensor.name:
            raise ModelError(f"{label}: an initializer has no name")
    names = [tensor.name for tensor in graph.initializer]
    twice = (
        next((name for name in names if names.count(name) > 1), None)
        if len(set(names)) != len(names)
        else None
    )
    if twice is not None:
        raise ModelError(f"{label}: initializer '{twice}' is defined twice")
    for info in graph_inputs(graph):
        if info.name in seen:
            raise ModelError(f"{label}: input '{info.name}' is defined twice")
        seen[info.name] = "an input"
        numpy_dtype(info, label)
    for index, node in enumerate(graph.node):
        for output in (o for o in node.output if o):
            what = f"node '{node.name or f'{node.op_type}_{index}'}' ({node.op_type})"
            if output in seen:
                raise ModelError(f"{label}: '{output}' is defined by {seen[output]} and by {what}")
            seen[output] = what
    for info in graph.output:
        if info.name not in seen:
            raise ModelError(f"{label}: output '{info.name}' is computed by no node")
        tensor = tensor_type(info)
        if tensor is None or tensor.elem_type:
            numpy_dtype(info, label)


def sort_graph(graph: onnx.GraphProto, outer: set[str], label: str) -> None:
    """Put nodes after what they read, in place, branches included."""
    known = outer | {t.name for t in graph.initializer} | {i.name for i in graph.input}
    order = sorted_nodes(graph, known, label)
    if order is not None:
        del graph.node[:]
        graph.node.extend(order)
    everything = known | {output for node in graph.node for output in node.output}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                sort_graph(attribute.g, everything, label)


def _check_sizes(graph: onnx.GraphProto, label: str) -> None:
    """Refuse tensors and models beyond the limits, from declared shapes alone."""
    total = 0
    for info in graph_inputs(graph):
        shape = declared_shape(info) or ()
        elements = check_elements(shape, f"{label}: input '{info.name}'")
        total += elements * np.dtype(numpy_dtype(info, label)).itemsize
    for tensor in graph.initializer:
        total += tensor_bytes(tensor)
        _check_stored(tensor, label)
    for info in (*graph.value_info, *graph.output):
        check_elements(declared_shape(info) or (), f"{label}: tensor '{info.name}'")
    check_total(total, label)


def _check_stored(tensor: onnx.TensorProto, label: str) -> None:
    """Refuse an initialiser whose raw data does not fill its shape."""
    if is_external(tensor) or not tensor.HasField("raw_data"):
        return
    if len(tensor.raw_data) != tensor_bytes(tensor):
        raise ModelError(
            f"{label}: initializer '{tensor.name}' stores {len(tensor.raw_data)} bytes, but its "
            f"shape {list(tensor.dims)} needs {tensor_bytes(tensor)}"
        )


def run_checker(model: onnx.ModelProto, label: str) -> None:
    """Onnx's own checker, on a copy whose weights and external tensors are taken as read."""
    plain = without_weights(model)
    # Older files list initializers as inputs; what optimizers add to them is not listed.
    plain.ir_version = max(plain.ir_version, 4)
    for stored, tensor in zip(model.graph.initializer, plain.graph.initializer, strict=True):
        if is_external(tensor) or is_large(stored):
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
            tensor.ClearField("dims")
            tensor.dims.append(0)
    for info in (*plain.graph.input, *plain.graph.output):
        if info.type.HasField("tensor_type"):
            # The checker wants a shape; exporters leave it out.
            info.type.tensor_type.shape.SetInParent()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            onnx.checker.check_model(plain)
    except Exception as error:  # ValidationError, or RuntimeError of the bindings
        text = " ".join(str(error).split())
        raise ModelError(f"{label}: onnx's checker refuses it: {text}") from error
