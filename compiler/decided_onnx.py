"""Merge decisions applied to the ONNX model that they were made for.

For each merge the tensor behind its output node is computed by one new convolution instead,
from the tensor that its first node reads, followed by what the decision says: the addition of
a bias map, an activation. The tensor keeps its name, so that all readers stay as they are;
what then nothing reads is taken out, of the merged nodes and of their weights only. Opset,
other nodes, metadata, inputs and outputs are not touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from msgspec.structs import replace
from onnx import helper, inliner, numpy_helper

from motet.compiler.decided_strips import Strips
from motet.compiler.frontend.checks import run_checker, sort_graph
from motet.compiler.frontend.order import names_read
from motet.compiler.frontend.places import node_name
from motet.compiler.onnx_graph import OnnxGraph, attributes_of
from motet.passes.decisions import Decided, Kept, Merge
from motet.runtime.device import Array
from motet.runtime.errors import ModelError

BROADCASTING, CLIP_INPUTS = 7, 11
"""Opsets from which Add broadcasts as numpy does, and Clip's bounds are inputs."""


@dataclass
class _Edit:
    """What one merge puts in: nodes in order, and their weights."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)


def apply_merges(model: onnx.ModelProto, decided: Decided, label: str) -> onnx.ModelProto:
    """A copy of ``model`` with the merges of ``decided`` made.

    model: with its weights loaded. label: how messages call it. Functions of the model are
    inlined where a merge lies inside one.

    Raises ``ModelError`` where the decisions are not of this model.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result = _prepared(result, decided, label)
    for merge in decided.decisions.merges:
        _apply(result, merge, decided.weights, label)
    if decided.decisions.merges:
        run_checker(result, f"{label}, merged")
    return result


def applicable(model: onnx.ModelProto, decided: Decided, label: str) -> Decided:
    """``decided``, where a merge that the file of ``model`` cannot express is kept apart instead.

    Arguments as ``apply_merges``'s, weights included.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = OnnxGraph(_prepared(copy, decided, label), label)
    decisions = tuple(
        _or_kept(graph, d, decided.weights) if isinstance(d, Merge) else d
        for d in decided.decisions.decisions
    )
    return Decided(replace(decided.decisions, decisions=decisions), decided.weights)


def _or_kept(graph: OnnxGraph, merge: Merge, weights: Mapping[str, Array]) -> Merge | Kept:
    try:
        operand = graph.operand(merge.nodes)
        _edit(graph, merge, weights, operand, graph.node(merge.output).output[0])
    except ModelError as error:
        reason = str(error).removeprefix(f"{graph.label}: ")
        return Kept(model=merge.model, block=merge.block, nodes=merge.nodes, reason=reason)
    return merge


def _prepared(model: onnx.ModelProto, decided: Decided, label: str) -> onnx.ModelProto:
    """Sorted, with the nodes that decisions name at the top level, under these names."""
    wanted = {name for merge in decided.decisions.merges for name in merge.nodes}
    named = {node.name for node in model.graph.node}
    if not wanted <= named and model.functions:  # nodes are counted once functions are inlined
        model = inliner.inline_local_functions(model, convert_version=False)
    known = {t.name for t in model.graph.initializer} | {i.name for i in model.graph.input}
    if wanted and not _is_sorted(model.graph, known):
        sort_graph(model.graph, set(), label)
    for index, node in enumerate(model.graph.node):
        name = node_name(node, index)
        if not node.name and name in wanted:
            node.name = name  # edits move the others
    return model


def _is_sorted(graph: onnx.GraphProto, known: set[str]) -> bool:
    done = set(known)
    for node in graph.node:
        if not done.issuperset(names_read(node)):
            return False
        done.update(node.output)
    return True


def _apply(model: onnx.ModelProto, merge: Merge, weights: Mapping[str, Array], label: str) -> None:
    graph = OnnxGraph(model, label)
    graph.region(merge.nodes)
    _check_channels(graph, merge)
    operand = graph.operand(merge.nodes)
    result = graph.node(merge.output).output[0]
    edit = _edit(graph, merge, weights, operand, result)
    own = [graph.node(name) for name in graph.region(merge.nodes)]
    place = max(i for i, node in enumerate(model.graph.node) if any(node is n for n in own))
    graph.node(merge.output).output[0] = f"{result}.motet.unmerged"
    _read_instead(graph, own, merge, result)
    nodes = list(model.graph.node)
    nodes[place + 1 : place + 1] = edit.nodes
    model.graph.initializer.extend(edit.weights)
    _put(model, _without_dead(model, nodes, own, label), own)


def _check_channels(graph: OnnxGraph, merge: Merge) -> None:
    """Refuse decisions of a model whose nodes have the same names, and other layers."""
    ends = [graph.node(merge.convolutions[at]) for at in (0, -1)] if merge.convolutions else []
    weights = [graph.constant(node.input[1]) for node in ends if len(node.input) > 1]
    if len(weights) < 2 or weights[0] is None or weights[1] is None:
        return  # computed from other constants: the checker has the last word
    inputs = weights[0].shape[1] * int(attributes_of(ends[0]).get("group", 1))
    found, told = (inputs, weights[1].shape[0]), merge.geometry
    if found != (told.in_channels, told.out_channels):
        raise ModelError(
            f"{graph.label}: the convolutions of the merge at {merge.output!r} have {found[0]} and "
            f"{found[1]} channels, its decision {told.in_channels} and {told.out_channels}: it was "
            "made for another model"
        )


def _read_instead(
    graph: OnnxGraph, own: Sequence[onnx.NodeProto], merge: Merge, result: str
) -> None:
    """Merged nodes behind the output node (a decision may end inside) read on what it made."""
    for node in own:
        for index, name in enumerate(node.input):
            if name == result and node is not graph.node(merge.output):
                node.input[index] = f"{result}.motet.unmerged"


def _without_dead(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    own: Sequence[onnx.NodeProto],
    label: str,
) -> list[onnx.NodeProto]:
    """``nodes`` without those of ``own`` (and the constants they alone read) that none reads."""
    outputs = {info.name for info in model.graph.output}
    read_by_own = {name for node in own for name in names_read(node)}
    removable = {id(node) for node in own} | {
        id(node)
        for node in nodes
        if node.op_type == "Constant" and read_by_own.intersection(node.output)
    }
    kept = list(nodes)
    while True:
        read = outputs | {name for node in kept for name in names_read(node)}
        left = [n for n in kept if id(n) not in removable or read.intersection(n.output)]
        if len(left) == len(kept):
            return left
        kept = left


def _put(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], own: Sequence[onnx.NodeProto]
) -> None:
    """Make ``nodes`` the graph's, and drop weights and types that only removed ones had."""
    touched = {name for node in own for name in names_read(node)}
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    read = {name for node in copies for name in names_read(node)}
    read |= {info.name for info in model.graph.output}
    dead = touched - read
    for index in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[index].name in dead:
            del model.graph.initializer[index]
    listed = {tensor.name for tensor in model.graph.initializer}
    for index in reversed(range(len(model.graph.input))):  # old files list weights as inputs
        name = model.graph.input[index].name
        if name in dead and name not in listed:
            del model.graph.input[index]
    computed = {name for node in copies for name in node.output}
    for index in reversed(range(len(model.graph.value_info))):
        if model.graph.value_info[index].name not in computed:
            del model.graph.value_info[index]


def _edit(
    graph: OnnxGraph, merge: Merge, weights: Mapping[str, Array], operand: str, result: str
) -> _Edit:
    """The new nodes of ``merge``, from tensor ``operand`` to tensor ``result``."""
    edit, base = _Edit(), f"{merge.output}/merged"
    dtype = _dtype(graph, merge)
    if any(p < 0 for p in merge.geometry.padding):
        raise ModelError(f"{graph.label}: the merge at {merge.output!r} has negative padding")
    has_map = bool(merge.bias) and weights[merge.bias].ndim > 1
    steps = 1 + has_map + any(merge.strip) + bool(merge.activation)
    names = [f"{base}/{i}" for i in range(steps - 1)] + [result]
    inputs = [operand, _weight(edit, f"{base}/weight", weights[merge.weight], dtype)]
    if merge.bias and not has_map:
        inputs.append(_weight(edit, f"{base}/bias", weights[merge.bias], dtype))
    edit.nodes.append(_convolution(merge, inputs, names[0], base))
    if has_map:
        _add_map(edit, graph, weights[merge.bias].astype(dtype), names[0], names[1], base)
    if any(merge.strip):
        strips = Strips(graph, merge, weights, base, dtype)
        strips.bordered(names[has_map], names[1 + has_map])
        edit.nodes += strips.nodes
        edit.weights += strips.weights
    if merge.activation:
        _activation(edit, graph, merge.activation, names[-2], names[-1], base, dtype)
    return edit


def _dtype(graph: OnnxGraph, merge: Merge) -> np.dtype[np.generic]:
    """Of the first convolution's weights: the merged one's too."""
    for name in merge.convolutions:
        for tensor in graph.node(name).input[1:2]:
            value = graph.constant(tensor)
            if value is not None:
                return value.dtype
    return np.dtype(np.float32)


def _weight(edit: _Edit, name: str, array: Array, dtype: np.dtype[np.generic]) -> str:
    edit.weights.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype), name))
    return name


def _convolution(merge: Merge, inputs: Sequence[str], output: str, name: str) -> onnx.NodeProto:
    shape = merge.geometry
    return helper.make_node(
        "Conv",
        list(inputs),
        [output],
        name,
        kernel_shape=list(shape.kernel),
        strides=list(shape.stride),
        pads=list(shape.padding),
        dilations=list(shape.dilation),
        group=shape.groups,
    )


def _add_map(
    edit: _Edit, graph: OnnxGraph, bias: Array, operand: str, output: str, base: str
) -> None:
    """Behind a convolution, what its bias is at each position: [1, O, *sizes]."""
    old = graph.opset < BROADCASTING
    array = bias[0] if old else bias
    attributes: dict[str, Any] = {"broadcast": 1, "axis": 1} if old else {}
    name = _weight(edit, f"{base}/bias_map", array, bias.dtype)
    edit.nodes.append(
        helper.make_node("Add", [operand, name], [output], f"{base}/add_bias_map", **attributes)
    )


def _activation(
    edit: _Edit, graph: OnnxGraph, kind: str, operand: str, output: str, base: str,
    dtype: np.dtype[np.generic],
) -> None:  # fmt: skip
    name = f"{base}/{kind}"
    if kind == "relu":
        edit.nodes.append(helper.make_node("Relu", [operand], [output], name))
    elif graph.opset < CLIP_INPUTS:
        edit.nodes.append(helper.make_node("Clip", [operand], [output], name, min=0.0, max=6.0))
    else:
        low = _weight(edit, f"{name}/low", np.array(0.0), dtype)
        high = _weight(edit, f"{name}/high", np.array(6.0), dtype)
        edit.nodes.append(helper.make_node("Clip", [operand, low, high], [output], name))
