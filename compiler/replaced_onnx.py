"""Decisions on depthwise convolutions applied to the ONNX model that they were made for.

The tensor behind a replaced layer becomes a Concat of two new convolutions, its neighbours with
new weights become one convolution each, and constants or gates that ``full`` widens meet a
Concat with themselves. Tensors keep their names, so that all other readers stay as they are.
What then nothing reads is taken out. Opset, other nodes, metadata, inputs and outputs are not
touched; types of inner values are left out, where they may have changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper

from motet.compiler.calibration.values import add_types
from motet.compiler.frontend.order import names_read
from motet.compiler.frontend.places import node_name
from motet.compiler.onnx_graph import OnnxGraph, attributes_of
from motet.passes.decisions import Decided, NewWeights, Replacement
from motet.passes.separable.applying import line_padding
from motet.runtime.device import Array

SLICE_INPUTS = 10
"""Opset from which Slice takes its bounds as inputs."""


@dataclass
class _Edit:
    """What comes in: nodes by the node that they stand for, weights; and what goes."""

    graph: OnnxGraph
    weights: Mapping[str, Array]
    nodes: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    removed: set[str] = field(default_factory=set)

    def constant(self, name: str, values: Array) -> str:
        """An initialiser; its name."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def apply_replacements(model: onnx.ModelProto, decided: Decided, label: str) -> onnx.ModelProto:
    """A copy of ``model``, its weights loaded, with the replacements of ``decided`` made.

    label: how messages call it. Functions of the model are inlined where a decision's nodes lie
    inside one. Raises ``ModelError`` where the decisions are not of this model.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    replacements = decided.decisions.replacements
    if not replacements:
        return result
    result = _named(result, replacements)
    add_types(result)
    edit = _Edit(OnnxGraph(result, label), decided.weights)
    layers = {new.output: new for one in replacements for new in one.layers}
    for one in replacements:
        _widen(edit, one)  # first: it looks at the graph as it was
    for one in replacements:
        _lines(edit, one)
    for new in layers.values():
        _layer(edit, new)
    _rebuild(result, edit)
    onnx.checker.check_model(result) if result.ByteSize() < 2**31 else None
    return result


def _named(model: onnx.ModelProto, replacements: Sequence[Replacement]) -> onnx.ModelProto:
    """With the nodes that decisions name at the top level, under these names."""
    wanted = {name for one in replacements for name in one.nodes}
    names = {node_name(node, index) for index, node in enumerate(model.graph.node)}
    if not wanted <= names and model.functions:
        model = inliner.inline_local_functions(model, convert_version=False)
    for index, node in enumerate(model.graph.node):
        node.name = node_name(node, index)
    return model


def _lines(edit: _Edit, one: Replacement) -> None:
    """Rows, columns and their concatenation in the place of a depthwise layer."""
    graph, base = edit.graph, one.nodes[0]
    data, result = graph.operand(one.nodes), graph.result(one.nodes)
    channels = one.geometry.out_channels
    made: list[onnx.NodeProto] = []
    spans = ((0, channels),) * 2
    if one.variant == "half":
        spans = ((0, one.rows), (one.rows, channels))
    parts = (("row", one.row, one.row_bias), ("column", one.column, one.column_bias))
    outputs = []
    for (name, weight, bias), span in zip(parts, spans, strict=True):
        kernel = edit.weights[weight].shape[2:]
        padding, crops = line_padding(one.geometry.padding, one.geometry.kernel, kernel)
        bounds = {} if span == (0, channels) else {1: span}
        bounds |= {axis: (crops[axis - 2], -crops[axis] or 2**31 - 1)
                   for axis in (2, 3) if crops[axis - 2] or crops[axis]}  # fmt: skip
        cut = _slice(edit, made, data, f"{base}/{name}/slice", bounds) if bounds else data
        outputs.append(f"{base}/{name}")
        inputs = [cut, edit.constant(f"{base}/{name}/weight", edit.weights[weight]),
                  edit.constant(f"{base}/{name}/bias", edit.weights[bias])]  # fmt: skip
        made.append(
            helper.make_node(
                "Conv", inputs, outputs[-1:], f"{base}/{name}", kernel_shape=list(kernel),
                strides=list(one.geometry.stride), pads=padding, group=span[1] - span[0],
            )
        )  # fmt: skip
    made.append(helper.make_node("Concat", outputs, [result], f"{base}/concat", axis=1))
    edit.nodes[one.output] = made
    edit.removed |= set(one.nodes)


def _slice(
    edit: _Edit,
    made: list[onnx.NodeProto],
    data: str,
    name: str,
    bounds: Mapping[int, tuple[int, int]],
) -> str:
    axes = list(bounds)
    starts, ends = ([bounds[axis][end] for axis in axes] for end in (0, 1))
    if edit.graph.opset < SLICE_INPUTS:
        node = helper.make_node("Slice", [data], [name], name, axes=axes, starts=starts, ends=ends)
    else:
        inputs = [
            edit.constant(f"{name}/{what}", np.array(values, np.int64))
            for what, values in (("starts", starts), ("ends", ends), ("axes", axes))
        ]
        node = helper.make_node("Slice", [data, *inputs], [name], name)
    made.append(node)
    return name


def _layer(edit: _Edit, new: NewWeights) -> None:
    """One convolution in the place of a layer, with other weights."""
    graph, base = edit.graph, new.nodes[0]
    old = attributes_of(graph.node(base))
    kept = {key: old[key] for key in ("strides", "pads", "dilations", "auto_pad") if key in old}
    weight = edit.weights[new.weight]
    inputs = [graph.operand(new.nodes), edit.constant(f"{base}/new_weight", weight),
              edit.constant(f"{base}/new_bias", edit.weights[new.bias])]  # fmt: skip
    node = helper.make_node(
        "Conv", inputs, [graph.result(new.nodes)], base, kernel_shape=list(weight.shape[2:]), **kept
    )
    edit.nodes[new.output] = [node]
    edit.removed |= set(new.nodes)


def _widen(edit: _Edit, one: Replacement) -> None:
    """Give what stands beside the doubled channels to both halves of them."""
    if not one.widened:
        return
    graph = edit.graph
    stop = {name for new in one.layers for name in new.nodes}
    wide, ahead = set[str](), [graph.result(one.nodes)]
    while ahead:
        tensor = ahead.pop()
        wide.add(tensor)
        readers = [graph.node(name) for name in graph.readers.get(tensor, ()) if name not in stop]
        ahead += [t for node in readers for t in node.output if t not in wide]
    for name in one.widened:
        node = graph.node(name)
        made = []
        for index, tensor in enumerate(node.input):
            axis = None if tensor in wide else _channel_axis(edit, node, tensor, one)
            if axis is not None:
                twice = f"{name}/twice_{index}"
                made.append(helper.make_node("Concat", [tensor] * 2, [twice], twice, axis=axis))
                node.input[index] = twice
        edit.nodes[name] = [*made, node]


def _channel_axis(edit: _Edit, node: onnx.NodeProto, tensor: str, one: Replacement) -> int | None:
    """The axis of an operand that meets the doubled channels; None where it has none."""
    known = edit.graph.constant(tensor) if tensor else None
    info = edit.graph.types.get(tensor)
    if node.op_type == "BatchNormalization":
        return 0
    if known is None and info is None:  # onnx cannot tell: what else would be widened is known
        return 1 if tensor else None
    shape = known.shape if known is not None else info.shape if info is not None else ()
    axis = len(shape) - 3
    if axis < 0 or shape[axis] != one.geometry.out_channels:
        return None
    return axis


def _rebuild(model: onnx.ModelProto, edit: _Edit) -> None:
    """Put the new nodes where their last one stood; drop what is not read any more."""
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.name in edit.nodes:
            nodes += edit.nodes[node.name]
        elif node.name not in edit.removed:
            nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    initializers = [*model.graph.initializer, *edit.initializers]
    before = {name for node in model.graph.node for name in names_read(node)}
    del model.graph.node[:]
    model.graph.node.extend(_read(model.graph, copies, before))
    read = {name for node in model.graph.node for name in names_read(node)}
    read |= {info.name for info in model.graph.output}
    kept = [t for t in initializers if t.name in read or t.name not in before]
    kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    gone = {tensor.name for tensor in initializers} - {tensor.name for tensor in kept}
    for index in reversed(range(len(model.graph.input))):  # old files list weights as inputs
        if model.graph.input[index].name in gone:
            del model.graph.input[index]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]


def _read(
    graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto], before: set[str]
) -> list[onnx.NodeProto]:
    """``nodes`` without constants whose readers are gone."""
    read = {name for node in nodes for name in names_read(node)}
    read |= {info.name for info in graph.output}
    return [
        node
        for node in nodes
        if node.op_type != "Constant" or node.output[0] in read or node.output[0] not in before
    ]
