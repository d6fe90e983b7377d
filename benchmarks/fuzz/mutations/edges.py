"""Edges: inputs that read another value, none, too many; cycles; outputs defined twice."""

from __future__ import annotations

from random import Random

import onnx

from .graphs import pick_graph, values


def rewire(model: onnx.ModelProto, chance: Random) -> str:
    """One input of a node reads another value of the graph, or one that nothing computes."""
    graph = pick_graph(model, chance)
    nodes = [node for node in graph.node if node.input]
    if not nodes:
        return ""
    node = chance.choice(nodes)
    place = chance.randrange(len(node.input))
    new = chance.choice([*values(graph), *node.output, "nothing", ""])
    old, node.input[place] = node.input[place], new
    return f"input {place} of {node.op_type} reads {new!r}, was {old!r}"


def swap(model: onnx.ModelProto, chance: Random) -> str:
    """Two inputs of a node change places."""
    nodes = [node for node in pick_graph(model, chance).node if len(node.input) > 1]
    if not nodes:
        return ""
    node = chance.choice(nodes)
    one, other = chance.sample(range(len(node.input)), 2)
    node.input[one], node.input[other] = node.input[other], node.input[one]
    return f"inputs {one} and {other} of {node.op_type} are swapped"


def arity(model: onnx.ModelProto, chance: Random) -> str:
    """An input or output of a node less or more."""
    graph = pick_graph(model, chance)
    if not graph.node:
        return ""
    node = chance.choice(graph.node)
    which = chance.choice((node.input, node.output))
    if which and chance.random() < 0.6:
        del which[-1 if chance.random() < 0.7 else 0]
    else:
        more = chance.choice(("", "more", *values(graph)))
        which.extend([more] * chance.choice((1, 1, 1, 40)))
    return f"{node.op_type} has {len(node.input)} inputs and {len(node.output)} outputs"


def redefine(model: onnx.ModelProto, chance: Random) -> str:
    """A node's output gets the name of another value, or none."""
    graph = pick_graph(model, chance)
    nodes = [node for node in graph.node if node.output]
    if not nodes:
        return ""
    node = chance.choice(nodes)
    place = chance.randrange(len(node.output))
    node.output[place] = chance.choice([*values(graph), "", "fresh"])
    return f"output {place} of {node.op_type} is called {node.output[place]!r}"


def shuffle(model: onnx.ModelProto, chance: Random) -> str:
    """Nodes in another order."""
    graph = pick_graph(model, chance)
    if len(graph.node) < 2:
        return ""
    order = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    chance.shuffle(order)
    del graph.node[:]
    graph.node.extend(order)
    return "nodes in another order"


def expose(model: onnx.ModelProto, chance: Random) -> str:
    """Some value (an input, a constant, something between) becomes an output too."""
    graph = model.graph
    name = chance.choice([*values(graph), "nothing"])
    if any(info.name == name for info in graph.output) and chance.random() < 0.9:
        return ""
    known = {info.name: info for info in (*graph.input, *graph.value_info)}
    added = graph.output.add(name=name)
    if name in known:
        added.CopyFrom(known[name])
    elif chance.random() < 0.5:
        added.type.tensor_type.elem_type = 1
    return f"{name!r} is an output"


MUTATIONS = (rewire, rewire, swap, arity, arity, redefine, shuffle, expose)
