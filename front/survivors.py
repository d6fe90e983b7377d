"""Which values of a compiled program are values of its ONNX graph.

A unit computes what the last of its nodes computes: of the nodes that it names, the one
that the others lead to. That is claimed only where it must be so:

1. no later unit names that node too (it would compute the rest of it);
2. the node has one output that is read, or as many outputs as the unit, in order;
3. the node holds no graph, its name is unique, and an output of the graph needs it;
4. a program of the array joins several units, whose nodes are not told apart: only the
   result of one with a single result is claimed (``passes.regions.enabled=false`` makes
   every unit a program of its own);
5. equal subexpressions were computed once: a unit with several last nodes stands for all.
   Whether these are equal is checked against the reference before one is compared.

Shapes are checked when values are compared (``faithful``): blocks of channels are put in the
graph's order; another packed layout is no value of the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from motet.node_graph import GraphNode, NodeGraph
from motet.runtime.device import Array
from motet.runtime.program import Operator


@dataclass(frozen=True)
class Claim:
    """Output ``position`` of operator number ``operator`` equals ``tensors``, one value all.

    nodes: the nodes that compute them, in the same order; alone: nothing reads another
    output of these nodes, so that a unit may leave the others out; joined: the operator is
    several units.
    """

    operator: int
    position: int
    tensors: tuple[str, ...]
    nodes: tuple[GraphNode, ...]
    alone: bool
    joined: bool = False

    def value(self, written: Sequence[Array]) -> Array | None:
        """The claimed one of what the unit wrote; None where its outputs are not the node's."""
        if len(written) == len(self.nodes[0].outputs) and not self.joined:
            return written[self.position]
        return written[0] if len(written) == 1 and self.alone else None


def claims(operators: Sequence[Operator], graph: NodeGraph) -> dict[int, list[Claim]]:
    """What can be compared, by operator number."""
    by_name = {
        name: node
        for name, node in graph.unique().items()
        if graph.is_live(node) and not node.holds_graphs
    }
    last_use = {
        name: number for number, operator in enumerate(operators) for name in operator.onnx_nodes
    }
    found: dict[int, list[Claim]] = {}
    for number, operator in enumerate(operators):
        nodes = [by_name[name] for name in operator.onnx_nodes if name in by_name]
        last = [node for node in graph.last_of(nodes) if last_use[node.name] == number]
        if last and len(last) == len(graph.last_of(nodes)):
            joined = len(operator.steps) > 1
            found[number] = [replace(c, joined=joined) for c in _claims(number, last, graph)]
    return found


def _claims(number: int, last: Sequence[GraphNode], graph: NodeGraph) -> list[Claim]:
    read = [graph.read_outputs(node) for node in last]
    if all(len(names) == 1 for names in read):
        positions = {node.outputs.index(names[0]) for node, names in zip(last, read, strict=True)}
        if len(positions) == 1:
            names = tuple(name for (name,) in read)
            return [Claim(number, positions.pop(), names, tuple(last), True)]
    if len(last) == 1:
        node = last[0]
        return [
            Claim(number, position, (name,), (node,), False)
            for position, name in enumerate(node.outputs)
            if name in read[0]
        ]
    return []


_BLOCKS = (4, 8, 16)
"""Channels of a block in the host's layout: the float32 lanes of a vector."""


def faithful(value: Array, reference: Array) -> Array | None:
    """``value`` in the reference's shape, where that only adds or drops axes of one, or where
    it is the reference's (N, C, H, W) in blocks of channels, [N][C / b][H][W][b]; None for
    another layout, and where it may be either.
    """
    if value.dtype != reference.dtype:
        return None
    plain = _without_ones(value) == _without_ones(reference)
    if _is_blocked(value, reference):
        return None if plain else np.moveaxis(value, -1, 2).reshape(reference.shape)
    return value.reshape(reference.shape) if plain else None


def _without_ones(array: Array) -> list[int]:
    return [d for d in array.shape if d != 1]


def _is_blocked(value: Array, reference: Array) -> bool:
    if value.ndim != 5 or reference.ndim != 4:
        return False
    n, blocks, height, width, block = value.shape
    return block in _BLOCKS and (n, blocks * block, height, width) == reference.shape
