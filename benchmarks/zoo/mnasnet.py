"""MnasNet-B1 (Tan et al. 2019, without squeeze-and-excitation), as torchvision's ``mnasnet1_0``."""

from __future__ import annotations

import onnx

from . import variants
from .building import GraphBuilder
from .mobile import Block, inverted_residual, kind_of, lines_of, normed, relu, with_kinds

NAMES = {"mnasnet_b1": "b1"}
GROUPS = (
    (3, 1, 16, 1, 1), (3, 3, 24, 3, 2), (5, 3, 40, 3, 2), (5, 6, 80, 3, 2),
    (3, 6, 96, 2, 1), (5, 6, 192, 4, 2), (3, 6, 320, 1, 1),
)  # fmt: skip
"""Kernel, expansion factor, output channels, blocks, stride of the first."""
CLASSES = 1000


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """MnasNet-B1; ``b1@64`` takes images of 64 x 64 instead of 224 x 224.

    ``b1-half`` has FuSeConv's rows and columns; ``b1-half50`` in the first eight of 17 blocks.

    input: image, 1 x 3 x 224 x 224, float32. output: logits, 1 x 1000. Dropout, which does
    nothing at inference, is left out, as exporters do.
    """
    text, edge = variants.parse("mnasnet_b1", variant, with_kinds(["b1"]), "b1", 224)
    kind = kind_of(text)[1]
    graph = GraphBuilder(f"mnasnet_{text.replace('-', '_')}", seed)
    x = graph.input("image", (1, 3, edge, edge))
    x = normed(graph, x, "stem", 32, 3, 2, activation=relu)
    count = sum(group[3] for group in GROUPS)
    number = 0
    for stage, (kernel, factor, channels, blocks, first_stride) in enumerate(GROUPS):
        for index in range(blocks):
            stride = 1 if index else first_stride
            lines = lines_of(kind, number, range(count // 2))
            block = Block(kernel, factor * x.channels, channels, stride, relu, lines=lines)
            x = inverted_residual(graph, x, f"blocks.{stage}.{index}", block)
            number += 1
    x = normed(graph, x, "head", 1280, 1, activation=relu)
    x = graph.flatten(graph.global_average_pool(x, "avgpool"), "flatten")
    return graph.model(logits=graph.linear(x, "classifier", CLASSES))
