"""Nodes: another operator or domain, deleted, twice, or one put in between."""

from __future__ import annotations

from functools import cache
from random import Random

import onnx

from .graphs import UNARY, free_name, pick_graph, pick_node

DOMAINS = ("", "ai.onnx", "com.microsoft", "ai.onnx.ml", "ai.onnx.preview.training", "my.dom", " ")


@cache
def operators() -> tuple[str, ...]:
    """Every operator of ONNX's default domain, sorted."""
    return tuple(sorted({s.name for s in onnx.defs.get_all_schemas() if not s.domain}))


def change_operator(model: onnx.ModelProto, chance: Random) -> str:
    """Another operator, mostly one that takes as many inputs."""
    node = pick_node(model, chance)
    if node is None:
        return ""
    old = node.op_type
    fitting = [
        name
        for name in operators()
        if onnx.defs.get_schema(name).min_input
        <= len(node.input)
        <= onnx.defs.get_schema(name).max_input
    ]
    node.op_type = chance.choice(
        (*(fitting and [chance.choice(fitting)]) * 8, chance.choice(operators()), "Nonsense", "")
    )
    if chance.random() < 0.7:
        del node.attribute[:]
    return f"{old} is {node.op_type}"


def change_domain(model: onnx.ModelProto, chance: Random) -> str:
    """Another domain, with or without its import."""
    node = pick_node(model, chance)
    if node is None:
        return ""
    node.domain = chance.choice(DOMAINS)
    if chance.random() < 0.7:
        model.opset_import.append(onnx.helper.make_opsetid(node.domain, 1))
    return f"{node.op_type} is of domain {node.domain!r}"


def delete(model: onnx.ModelProto, chance: Random) -> str:
    """A node less."""
    graph = pick_graph(model, chance)
    if not graph.node:
        return ""
    node = chance.choice(graph.node)
    op_type = node.op_type
    graph.node.remove(node)
    return f"{op_type} is deleted"


def duplicate(model: onnx.ModelProto, chance: Random) -> str:
    """A node twice; with outputs of its own (the model stays right) or the same ones."""
    graph = pick_graph(model, chance)
    if not graph.node:
        return ""
    node = chance.choice(graph.node)
    again = graph.node.add()
    again.CopyFrom(node)
    if chance.random() < 0.7:
        again.output[:] = [free_name(graph, name or "more") for name in node.output]
    return f"{node.op_type} is there twice"


def insert_node(model: onnx.ModelProto, chance: Random) -> str:
    """An operator of one input before a node: the model may stay right."""
    graph = pick_graph(model, chance)
    nodes = [node for node in graph.node if any(node.input)]
    if not nodes:
        return ""
    node = chance.choice(nodes)
    place = chance.choice([index for index, name in enumerate(node.input) if name])
    op_type, name = chance.choice(UNARY), free_name(graph, "inserted")
    graph.node.append(onnx.helper.make_node(op_type, [node.input[place]], [name]))
    node.input[place] = name
    return f"{op_type} before input {place} of {node.op_type}"


def append_node(model: onnx.ModelProto, chance: Random) -> str:
    """An operator of one input behind an output: the model may stay right."""
    graph = model.graph
    if not graph.output:
        return ""
    info = chance.choice(graph.output)
    op_type, name = chance.choice((*UNARY, "Shape", "Transpose", "Size")), free_name(graph, "end")
    graph.node.append(onnx.helper.make_node(op_type, [info.name], [name]))
    added = onnx.ValueInfoProto(name=name)
    if op_type in ("Shape", "Size"):
        added.type.tensor_type.elem_type = onnx.TensorProto.INT64
    elif info.type.HasField("tensor_type"):
        added.type.tensor_type.elem_type = info.type.tensor_type.elem_type
    graph.output.append(added)
    return f"{op_type} behind {info.name!r}"


def nest(model: onnx.ModelProto, chance: Random) -> str:
    """The graph lies in both branches of an If, or deep in many."""
    graph = model.graph
    depth = chance.choice((1, 1, 1, 2, 40))
    for level in range(depth):
        if graph.ByteSize() > 1 << 13:  # every level doubles it
            break
        branch = onnx.GraphProto(name=f"branch{level}")
        branch.node.extend(graph.node)
        branch.output.extend(graph.output)
        node = onnx.NodeProto(op_type="If", name=f"if{level}", input=["condition"])
        node.output.extend(info.name + "_if" * (level == 0) for info in graph.output)
        node.attribute.append(onnx.helper.make_attribute("then_branch", branch))
        node.attribute.append(onnx.helper.make_attribute("else_branch", branch))
        del graph.node[:]
        graph.node.append(node)
        for info in graph.output:
            info.name += "_if" * (level == 0)
    if all(info.name != "condition" for info in graph.input):
        graph.input.append(onnx.helper.make_tensor_value_info("condition", 9, []))
    return f"the graph lies in {depth} branches"


MUTATIONS = (
    change_operator, change_operator, change_domain, delete, duplicate, insert_node, insert_node,
    append_node, nest,
)  # fmt: skip
