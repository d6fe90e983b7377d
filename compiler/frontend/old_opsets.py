"""Models of opsets 1 to 6, brought to opset 7, the oldest that converters are written for.

What changed up to then: operators broadcast along an ``axis`` attribute, now as numpy does;
some attributes became inputs, were renamed, or went (``consumed_inputs``, ``is_test``).
The rules are applied in place, so that names stay and sizes may be symbolic;
``onnx.version_converter`` refuses symbolic sizes and broadcasting along inner axes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from motet.runtime.errors import ModelError

from .domains import DEFAULT_DOMAIN, Opsets, domain_of

MIN_OPSET = 7
_FIRST_IR_WITH_OPSETS = 3
_FIRST_WITH = {"Cast to": 6, "Concat axis": 4, "Reshape shape": 5, "Selu": 6, "Tile": 6}
_BROADCASTING = frozenset(
    ["Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "PRelu", "Pow", "Sub", "Xor"]
)
_GONE = ("consumed_inputs", "broadcast", "is_test", "output_sequence")
_SELU = {"alpha": 1.6732, "gamma": 1.0507}


def declare_opset(model: onnx.ModelProto) -> None:
    """Write out, in place, what ONNX says of models from before there were opsets: it is 1."""
    if model.ir_version < _FIRST_IR_WITH_OPSETS and not model.opset_import:
        model.opset_import.append(onnx.helper.make_opsetid(DEFAULT_DOMAIN, 1))
        model.ir_version = _FIRST_IR_WITH_OPSETS


def is_old(model: onnx.ModelProto) -> bool:
    """Whether the model is of an opset that has to be converted."""
    opsets = Opsets({}).updated(model.opset_import)
    return opsets.has(DEFAULT_DOMAIN) and 1 <= opsets.default < MIN_OPSET


def convert(model: onnx.ModelProto, label: str) -> None:
    """Bring an old model (``is_old``; nodes sorted) to opset ``MIN_OPSET``, in place.

    Raises
    ------
    ModelError
        For a use that has no equal in opset 7; names the node.
    """
    opset = Opsets({}).updated(model.opset_import).default
    nodes = list(model.graph.node)
    for index, node in enumerate(nodes):
        if domain_of(node):
            continue
        name = node.name or f"{node.op_type}_{index}"
        where = f"{label}: node '{name}' ({node.op_type}) of opset {opset}"
        _convert(node, opset, model.graph, where)
    for entry in model.opset_import:
        if entry.domain in (DEFAULT_DOMAIN, "ai.onnx"):
            entry.version = MIN_OPSET
    _align(model, label)
    for node in nodes:
        if node.op_type in _BROADCASTING and not domain_of(node):
            _drop(node, "axis")


def _convert(node: onnx.NodeProto, opset: int, graph: onnx.GraphProto, where: str) -> None:
    """What one node says, in the words of opset 7; ``axis`` of broadcasting stays for later."""
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "BatchNormalization" and not given.get("is_test"):
        raise ModelError(f"{where}: is in training mode (is_test = 0): export it for inference")
    _drop(node, *_GONE)
    rule = _RULES.get(node.op_type)
    if rule is not None:
        rule(node, opset, graph, where)


def _cast(node: onnx.NodeProto, opset: int, _graph: onnx.GraphProto, where: str) -> None:
    """The element type is a string before opset 6."""
    for attribute in node.attribute:
        if opset < _FIRST_WITH["Cast to"] and attribute.type == onnx.AttributeProto.STRING:
            name = attribute.s.decode("utf-8", "replace").upper()
            if name not in list(onnx.TensorProto.DataType.keys()):
                raise ModelError(f"{where}: there is no element type '{name}'")
            _set(node, "to", onnx.TensorProto.DataType.Value(name))
            return


def _concat(node: onnx.NodeProto, opset: int, _graph: onnx.GraphProto, _where: str) -> None:
    if opset < _FIRST_WITH["Concat axis"] and not _has(node, "axis"):
        _set(node, "axis", 1)


def _selu(node: onnx.NodeProto, opset: int, _graph: onnx.GraphProto, _where: str) -> None:
    """The defaults had fewer digits."""
    for name, value in _SELU.items():
        if opset < _FIRST_WITH["Selu"] and not _has(node, name):
            _set(node, name, value)


def _reshape(node: onnx.NodeProto, opset: int, graph: onnx.GraphProto, where: str) -> None:
    """The shape becomes an input."""
    if opset >= _FIRST_WITH["Reshape shape"]:
        return
    shape = next((list(a.ints) for a in node.attribute if a.name == "shape"), None)
    if shape is None:
        raise ModelError(f"{where}: has no attribute shape")
    name = _unused(graph, f"{node.output[0]}_shape")
    array = np.array(shape, np.int64)
    graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    graph.input.append(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, array.shape)
    )
    _drop(node, "shape")
    node.input.append(name)


def _pad(node: onnx.NodeProto, _opset: int, _graph: onnx.GraphProto, _where: str) -> None:
    for attribute in node.attribute:
        if attribute.name == "paddings":
            attribute.name = "pads"


def _pool(node: onnx.NodeProto, _opset: int, _graph: onnx.GraphProto, where: str) -> None:
    """The order of a norm is a whole number from opset 2 on."""
    for attribute in list(node.attribute):
        if attribute.name == "p" and attribute.type == onnx.AttributeProto.FLOAT:
            order = attribute.f
            if order != int(order):
                raise ModelError(f"{where}: its order p = {order:g} is no whole number")
            _set(node, "p", int(order))


def _upsample(node: onnx.NodeProto, _opset: int, _graph: onnx.GraphProto, _where: str) -> None:
    scales = {a.name: a.f for a in node.attribute if a.name in ("height_scale", "width_scale")}
    if len(scales) == 2:
        _drop(node, *scales)
        _set(node, "scales", [1.0, 1.0, scales["height_scale"], scales["width_scale"]])


def _tile(_node: onnx.NodeProto, opset: int, _graph: onnx.GraphProto, where: str) -> None:
    if opset < _FIRST_WITH["Tile"]:
        raise ModelError(f"{where}: has no equal in later opsets: export it again")


def _split(node: onnx.NodeProto, _opset: int, _graph: onnx.GraphProto, where: str) -> None:
    if len(node.input) > 1:
        raise ModelError(f"{where}: takes its sizes from an input: export it again")


_RULES: dict[str, Callable[[onnx.NodeProto, int, onnx.GraphProto, str], None]] = {
    "Cast": _cast,
    "Concat": _concat,
    "GlobalLpPool": _pool,
    "LpPool": _pool,
    "Pad": _pad,
    "Reshape": _reshape,
    "Selu": _selu,
    "Split": _split,
    "Tile": _tile,
    "Upsample": _upsample,
}


def _align(model: onnx.ModelProto, label: str) -> None:
    """Give second operands the trailing axes of 1 that they had by ``axis``."""
    graph = model.graph
    ranks = _ranks(model)
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if domain_of(node) or node.op_type not in _BROADCASTING or len(node.input) != 2:
            continue
        axis = next((a.i for a in node.attribute if a.name == "axis"), None)
        a, b = (ranks.get(name) for name in node.input)
        if node.op_type == "PRelu" and b == 1:
            axis = 1  # one slope per channel; a single one fits any shape
        if axis is None:
            continue
        if a is None or b is None:
            raise ModelError(
                f"{label}: node '{node.name or node.op_type}' ({node.op_type}) broadcasts along "
                "an axis of a tensor whose rank is not known: export it again with a newer opset"
            )
        missing = a - (axis + a if axis < 0 else axis) - b
        if missing > 0:
            name = _unused(graph, f"{node.output[0]}_{node.input[1]}")
            axes = list(range(b, b + missing))
            wider = onnx.helper.make_node(
                "Unsqueeze", [node.input[1]], [name], node.name, axes=axes
            )
            node.input[1] = name
            graph.node.insert(index, wider)


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """Ranks of the tensors, as onnx infers them: an old operator's is that of its first."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    for node in probe.graph.node:
        if node.op_type in _BROADCASTING and len(node.input) == 2:
            node.input[1] = node.input[0]
            _drop(node, "axis")
    try:
        graph = onnx.shape_inference.infer_shapes(probe).graph
    except Exception:  # what is wrong with the model is for the checks to say
        graph = probe.graph
    infos = (*graph.input, *graph.output, *graph.value_info)
    found = {
        info.name: len(info.type.tensor_type.shape.dim)
        for info in infos
        if info.type.tensor_type.HasField("shape")
    }
    return found | {tensor.name: len(tensor.dims) for tensor in graph.initializer}


def _has(node: onnx.NodeProto, name: str) -> bool:
    return any(attribute.name == name for attribute in node.attribute)


def _drop(node: onnx.NodeProto, *names: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def _set(node: onnx.NodeProto, name: str, value: object) -> None:
    _drop(node, name)
    node.attribute.append(onnx.helper.make_attribute(name, value))


def _unused(graph: onnx.GraphProto, name: str) -> str:
    """``name``, longer where the graph has a value of that name."""
    taken = {t.name for t in graph.initializer} | {i.name for i in graph.input}
    taken |= {name for node in graph.node for name in node.output}
    while name in taken:
        name += "_"
    return name
