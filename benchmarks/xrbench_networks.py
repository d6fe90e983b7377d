"""Convolutional networks that do as much work as XRBench's models, with random weights.

A stem of stride 2, then four stages of 3x3 convolutions whose channels double where the picture
halves, and a classifier; width and picture are chosen so that the work is the published one.
"""

from __future__ import annotations

from functools import cache

import onnx

from motet.benchmarks.zoo.building import GraphBuilder

GIGA_MACS = {
    "kd": 0.005, "asr": 9.66, "ss": 20.1, "de": 18.5, "pd": 7.52, "od": 9.71, "ht": 3.73,
    "es": 1.04, "ge": 2.25, "dr": 16.8, "as": 0.354,
}  # fmt: skip
"""10^9 multiply-accumulates of a run (Kwon et al., MLSys 2023): keyword detection, speech
recognition, semantic segmentation, depth estimation, plane detection, object detection, hand
tracking, eye segmentation, gaze estimation, depth refinement, action segmentation."""

STAGES, DEPTH = 4, 2
CLASSES = 64
WIDTHS = range(8, 129, 8)
EDGES = range(32, 385, 8)
"""Channels of the stem, and pixels of the square picture's edge, to choose from."""


def macs(width: int, edge: int) -> int:
    """Multiply-accumulates of the network of these sizes."""
    side, channels = edge // 2, width
    total = side * side * 27 * width
    for stage in range(STAGES):
        after = width << stage
        if stage:
            side = (side + 1) // 2
        for _ in range(DEPTH):
            total += side * side * 9 * channels * after
            channels = after
    return total + channels * CLASSES


@cache
def sizes(name: str) -> tuple[int, int]:
    """Width and edge whose work is nearest to the model's; the larger picture where equal."""
    wanted = GIGA_MACS[name] * 1e9
    pairs = [(width, edge) for width in WIDTHS for edge in EDGES]
    return min(pairs, key=lambda pair: (abs(macs(*pair) / wanted - 1), -pair[1]))


def network(name: str, seed: int = 0) -> onnx.ModelProto:
    """The network that stands for XRBench's model ``name``: image to logits."""
    width, edge = sizes(name)
    graph = GraphBuilder(f"xrbench_{name}", seed)
    x = graph.input("image", (1, 3, edge, edge))
    x = graph.relu(graph.conv(x, "stem", width, 3, 2, 1, bias=True), "stem_relu")
    for stage in range(STAGES):
        for layer in range(DEPTH):
            where = f"stage{stage}.{layer}"
            stride = 2 if stage and not layer else 1
            x = graph.conv(x, where, width << stage, 3, stride, 1, bias=True)
            x = graph.relu(x, f"{where}_relu")
    x = graph.flatten(graph.global_average_pool(x, "pool"), "flatten")
    return graph.model(logits=graph.linear(x, "classifier", CLASSES))
