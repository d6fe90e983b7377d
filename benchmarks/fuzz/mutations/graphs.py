"""What several mutations ask of a graph: its nodes, its values, a name that is free."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import onnx

UNARY = ("Relu", "Identity", "Neg", "Abs", "Sigmoid", "Tanh", "Floor", "Sqrt", "Exp", "Not")


def graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """The graph and those inside its nodes' attributes, outermost first."""
    found = [graph]
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                found += graphs(inner)
    return found


def pick_graph(model: onnx.ModelProto, chance: Random) -> onnx.GraphProto:
    """Mostly the model's graph, sometimes one inside a node."""
    every = graphs(model.graph)
    return chance.choice(every) if chance.random() < 0.5 else every[0]


def pick_node(model: onnx.ModelProto, chance: Random) -> onnx.NodeProto | None:
    """Some node, also one inside another's graph."""
    nodes = pick_graph(model, chance).node
    return chance.choice(nodes) if nodes else None


def values(graph: onnx.GraphProto) -> list[str]:
    """Names of inputs, initializers and what nodes compute."""
    names = [info.name for info in graph.input]
    names += [tensor.name for tensor in graph.initializer]
    names += [output for node in graph.node for output in node.output if output]
    return list(dict.fromkeys(names))


def free_name(graph: onnx.GraphProto, stem: str) -> str:
    """``stem`` with a number that no value of the graph has."""
    taken = set(values(graph))
    number = 0
    while f"{stem}_{number}" in taken:
        number += 1
    return f"{stem}_{number}"


def rename(graph: onnx.GraphProto, translated: Callable[[str], str]) -> None:
    """Give every value of the graph, wherever it is read or written, its translated name."""
    for part in graphs(graph):
        for info in (*part.input, *part.output, *part.value_info, *part.initializer):
            info.name = translated(info.name)
        for node in part.node:
            for names in (node.input, node.output):
                names[:] = [translated(name) if name else name for name in names]
