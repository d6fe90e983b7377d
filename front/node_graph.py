"""An ONNX graph as the search for a first difference walks it: nodes, and who reads whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class GraphNode:
    """A node: its place in the graph's order, the name that reports use, what it reads.

    reads: names of tensors, also those that only its branches read.
    """

    index: int
    name: str
    proto: Any
    reads: tuple[str, ...]

    @property
    def operator(self) -> str:
        """``Conv``, or ``com.microsoft::FusedConv``."""
        domain = str(self.proto.domain)
        return f"{domain}::{self.proto.op_type}" if domain else str(self.proto.op_type)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of its outputs in order; empty where one is left out."""
        return tuple(self.proto.output)

    @property
    def holds_graphs(self) -> bool:
        """Whether it is an ``If`` or a loop."""
        return any(a.HasField("g") or a.graphs for a in self.proto.attribute)


class NodeGraph:
    """The nodes of a sorted graph, producers and consumers of tensors, and reachability."""

    def __init__(self, model: onnx.ModelProto, nodes: Sequence[GraphNode]) -> None:
        self.model = model
        self.nodes = nodes
        self.producer = {output: node for node in nodes for output in node.outputs if output}
        self.consumers: dict[str, list[GraphNode]] = {}
        for node in nodes:
            for name in node.reads:
                self.consumers.setdefault(name, []).append(node)
        self.outputs = [info.name for info in model.graph.output]
        self._ancestors = self._all_ancestors()
        self.live = self._live()

    def _all_ancestors(self) -> list[int]:
        """For each node the set of nodes that it depends on, as bits."""
        result: list[int] = []
        for node in self.nodes:
            bits = 0
            for name in node.reads:
                producer = self.producer.get(name)
                if producer is not None:
                    bits |= result[producer.index] | 1 << producer.index
            result.append(bits)
        return result

    def _live(self) -> int:
        """Nodes that some output of the graph depends on, as bits."""
        ends = [self.producer[name] for name in self.outputs if name in self.producer]
        bits = 0
        for node in ends:
            bits |= self._ancestors[node.index] | 1 << node.index
        return bits

    def is_live(self, node: GraphNode) -> bool:
        """Whether an output of the graph depends on ``node``."""
        return bool(self.live >> node.index & 1)

    def last_of(self, nodes: Iterable[GraphNode]) -> list[GraphNode]:
        """Those that none of the others depends on."""
        nodes = list(nodes)
        before = 0
        for node in nodes:
            before |= self._ancestors[node.index]
        return [node for node in nodes if not before >> node.index & 1]

    def read_outputs(self, node: GraphNode) -> list[str]:
        """Outputs of ``node`` that a live node or the graph's caller reads."""
        return [
            name
            for name in node.outputs
            if name in self.outputs or any(map(self.is_live, self.consumers.get(name, ())))
        ]

    def unique(self) -> dict[str, GraphNode]:
        """Nodes by name, without names that are not unique in the graph and its branches."""
        from motet.compiler.frontend.supported import all_nodes

        counts = Counter(name for name, _ in all_nodes(self.model.graph))
        return {node.name: node for node in self.nodes if counts[node.name] == 1}


def name_of(node: onnx.NodeProto, index: int) -> str:
    """The node's name, or how the compiler calls one without a name."""
    return node.name or f"{node.op_type}_{index}"


def node_graph(model: onnx.ModelProto) -> NodeGraph:
    """The graph of ``model``, whose nodes must be sorted, as the compiler's checks leave it."""
    from motet.compiler.frontend.order import names_read

    nodes = [
        GraphNode(index, name_of(node, index), node, tuple(dict.fromkeys(names_read(node))))
        for index, node in enumerate(model.graph.node)
    ]
    return NodeGraph(model, nodes)
