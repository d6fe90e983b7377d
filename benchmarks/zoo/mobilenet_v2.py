"""MobileNet V2 (Sandler et al. 2018, table 2), as torchvision has it: inverted residuals."""

from __future__ import annotations

from dataclasses import replace

import onnx

from . import variants
from .building import GraphBuilder
from .mobile import (
    Block,
    divisible,
    inverted_residual,
    kind_of,
    lines_of,
    normed,
    relu6,
    with_kinds,
)

NAMES = {"mobilenet_v2": "1.0"}
WIDTHS = ("1.0", "1.4", "0.75", "0.5", "0.35")
GROUPS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
    (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
"""Expansion factor, output channels, blocks, stride of the first: t, c, n, s of the table."""
HALF_OF_THE_BLOCKS = range(1, 10)
"""Those (from 0) that FuSeConv's 50 % variants replace."""
CLASSES = 1000


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """MobileNet V2 of a width; ``0.5@128`` takes images of 128 x 128, not 224 x 224.

    ``1.0-half`` has FuSeConv's rows and columns; ``1.0-half50`` in nine of the 17 blocks.

    input: image, 1 x 3 x 224 x 224, float32. output: logits, 1 x 1000. Dropout, which does
    nothing at inference, is left out, as exporters do.
    """
    text, edge = variants.parse("mobilenet_v2", variant, with_kinds(WIDTHS), "1.0", 224)
    name, kind = kind_of(text)
    width = float(name)
    graph = GraphBuilder(f"mobilenet_v2_{text.replace('.', '_').replace('-', '_')}", seed)
    x = graph.input("image", (1, 3, edge, edge))
    x = normed(graph, x, "features.0", divisible(32 * width), 3, 2, activation=relu6)
    for index, block in enumerate(_blocks(width, x.channels), 1):
        block = replace(block, lines=lines_of(kind, index - 1, HALF_OF_THE_BLOCKS))
        x = inverted_residual(graph, x, f"features.{index}", block)
    last = divisible(1280 * max(1.0, width))
    x = normed(graph, x, "features.18", last, 1, activation=relu6)
    x = graph.flatten(graph.global_average_pool(x, "avgpool"), "flatten")
    return graph.model(logits=graph.linear(x, "classifier", CLASSES))


def _blocks(width: float, channels: int) -> list[Block]:
    """All blocks, the first of which reads ``channels``."""
    blocks = []
    for factor, base, count, first_stride in GROUPS:
        for index in range(count):
            stride = 1 if index else first_stride
            made = Block(3, factor * channels, divisible(base * width), stride, relu6)
            blocks.append(made)
            channels = made.channels
    return blocks
