"""Where a node stands: in the model's graph, in a branch or loop, or in a function body."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx

from .domains import Opsets


@dataclass(frozen=True)
class Place:
    """The surroundings of the nodes of one graph.

    opsets: of the model, or of the function body that the nodes belong to.
    owner: the node whose function body they belong to, whose name their calls carry;
        empty in the model's own graphs.
    prefix: before the names of nodes without a name, the path of the nodes around.
    loops: the loops around, innermost first; calls carry their names too.
    bodies: number of function bodies around.
    """

    opsets: Opsets
    owner: str = ""
    prefix: str = ""
    loops: tuple[str, ...] = ()
    bodies: int = 0

    def name(self, node: onnx.NodeProto, index: int) -> str:
        """The name of node number ``index`` of the graph."""
        return self.owner or node_name(node, index, self.prefix)

    def names(self, name: str) -> tuple[str, ...]:
        """What the calls of the node called ``name`` carry."""
        return (name, *self.loops)

    def branch(self, name: str) -> Place:
        """Inside a graph that the node called ``name`` holds."""
        return replace(self, prefix=f"{name}/")

    def loop(self, name: str) -> Place:
        """Inside a graph that the node called ``name`` repeats."""
        return replace(self.branch(name), loops=(name, *self.loops))

    def body(self, name: str, opsets: Opsets) -> Place:
        """Inside the function body of the node called ``name``."""
        return replace(self, opsets=opsets, owner=name, bodies=self.bodies + 1)


def node_name(node: onnx.NodeProto, index: int, prefix: str = "") -> str:
    """The node's name; ``<op_type>_<index>`` behind the path of its graph without one."""
    return str(node.name) or f"{prefix}{node.op_type}_{index}"
