"""RandWire, large (Xie et al. 2019, section 4), of one draw and without batch normalisation.

As inter-operator schedulers are compared on it (Ding et al. 2021): C = 154, up to the global
pooling. A node of a stage is the sum of its inputs, ReLU, depthwise 3x3 and pointwise
convolution; nodes without inputs read the stage's input at stride 2; the stage gives the sum
of the nodes that none reads. The stages' graphs are Watts-Strogatz draws WS(nodes, 4, 0.75),
in the order of the list below: the one of 16 nodes is the first, on the largest images, then
the three of 32.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from . import variants
from .building import GraphBuilder, Value
from .separable import relu_conv, relu_separable

NAMES = {"randwire": "ws-154"}
CHANNELS = {"ws-154": 154}
"""Channels of the first stage; each stage doubles them."""
FEATURES = 1280
STAGES = (
    "0>6,7,9 1>6,7,15 2>6,10,11 3>9,13 4>6,9,13,14,15 5>8,10,15 6>8,9,12 7>11,15 8>11 9>11 "
    "10>14 11>14 12>14 13>14,15 14>15",
    "0>2,13,25,30 1>8,20,22 2>3,16,24,30 3>6,7,26 4>12,22 5>15,21,27 6>11,21,31 7>8,9,15 "
    "8>23,27 9>10,11,19 10>12,30 11>13,15,17,28 12>14,26,31 13>14,16,21,31 14>16,28,29 15>19,22 "
    "16>18 17>18,19 18>24,31 20>21,22 21>23,26 22>31 24>31 25>26 26>31 27>29 29>30,31",
    "0>9,11,14,17,31 1>2,3,31 2>4,11,12,14,30 3>4,25 4>9,20,29 5>6,27 6>7,21,27 7>30,31 8>10,25 "
    "9>10,14 10>11,16,22,28 11>16,24 12>13,14,15,16 13>14,22,26 14>23 15>29 16>21 17>26 18>19,20 "
    "19>22,27 20>22 22>25,30 23>27 24>25,26 25>28 26>28 27>28,29 28>29 29>30,31 30>31",
    "0>17,20,24 1>10,22,26,29 2>19,22,28 3>6,7,8,9 4>5,7,26 5>6,23,24 6>8 7>8,11,18,23 8>11,25 "
    "9>11,19,27,29 10>12,17,30 11>14,23,30 12>13,25,31 13>16,27,28 14>24 15>16,18,21 16>17,22 "
    "17>21 18>24 19>22 20>23,28,29 22>25 23>30 24>26 25>28 27>28,29,30 29>31 30>31",
)
"""Edges of each stage's graph, ``from>to,to``; a node's number is above those it reads."""


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """RandWire; ``ws-154@64`` takes images of 64 x 64 instead of 224 x 224.

    input: image, 1 x 3 x 224 x 224, float32. output: features, 1 x 1280.
    """
    name, edge = variants.parse("randwire", variant, CHANNELS, "ws-154", 224)
    channels = CHANNELS[name]
    graph = GraphBuilder("randwire", seed)
    x = graph.input("image", (1, 3, edge, edge))
    x = graph.conv(x, "conv1", channels // 2, 3, 2, 1, bias=True)
    for index, edges in enumerate(STAGES):
        x = _stage(graph, x, f"stage{index + 2}", channels << index, edges)
    x = graph.global_average_pool(relu_conv(graph, x, "head", FEATURES), "avgpool")
    return graph.model(features=graph.flatten(x, "flatten"))


def sources_of(edges: str) -> list[list[int]]:
    """For each node of a stage the nodes that it reads, ascending."""
    pairs = [
        (int(source), int(target))
        for group in edges.split()
        for source, targets in [group.split(">")]
        for target in targets.split(",")
    ]
    sources: list[list[int]] = [[] for _ in range(max(target for _, target in pairs) + 1)]
    for source, target in pairs:
        sources[target].append(source)
    return sources


def _stage(graph: GraphBuilder, x: Value, name: str, channels: int, edges: str) -> Value:
    sources = sources_of(edges)
    nodes: list[Value] = []
    for number, reads in enumerate(sources):
        node = f"{name}.node{number}"
        data = _sum(graph, [nodes[source] for source in reads], f"{node}.sum") if reads else x
        stride, gain = (1, 2 / len(reads)) if reads else (2, 2.0)
        nodes.append(relu_separable(graph, data, node, channels, 3, stride, gain))
    read = {source for reads in sources for source in reads}
    sinks = [value for number, value in enumerate(nodes) if number not in read]
    return _sum(graph, sinks, f"{name}.sum")


def _sum(graph: GraphBuilder, values: Sequence[Value], name: str) -> Value:
    if len(values) == 1:
        return values[0]
    return graph.node("Sum", values, name, values[0].shape)
