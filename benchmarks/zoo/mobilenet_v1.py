"""MobileNet V1 (Howard et al. 2017, table 1): depthwise and pointwise layers in turns."""

from __future__ import annotations

import onnx

from . import variants
from .building import GraphBuilder
from .mobile import Block, depthwise, kind_of, lines_of, normed, relu6, with_kinds

NAMES = {"mobilenet_v1": "1.0"}
WIDTHS = ("1.0", "0.75", "0.5", "0.25")
LAYERS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    *[(512, 1)] * 5, (1024, 2), (1024, 1),
)  # fmt: skip
"""Output channels of each pointwise layer, stride of the depthwise one before it."""
HALF_OF_THE_BLOCKS = range(5)
"""Those that FuSeConv's 50 % variants replace."""
CLASSES = 1000


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """MobileNet V1 of a width; ``0.5@128`` takes images of 128 x 128, not 224 x 224.

    ``1.0-half`` has FuSeConv's rows and columns; ``1.0-half50`` in the first five blocks alone.

    input: image, 1 x 3 x 224 x 224, float32. output: logits, 1 x 1000. Activations are
    ReLU6, as in the authors' code; padding is symmetric.
    """
    text, edge = variants.parse("mobilenet_v1", variant, with_kinds(WIDTHS), "1.0", 224)
    name, kind = kind_of(text)
    width = float(name)
    graph = GraphBuilder(f"mobilenet_v1_{text.replace('.', '_').replace('-', '_')}", seed)
    x = graph.input("image", (1, 3, edge, edge))
    x = normed(graph, x, "conv0", int(32 * width), 3, 2, activation=relu6)
    for index, (channels, stride) in enumerate(LAYERS, 1):
        lines = lines_of(kind, index - 1, HALF_OF_THE_BLOCKS)
        block = Block(3, x.channels, channels, stride, relu6, lines=lines)
        x = depthwise(graph, x, f"conv{index}.depthwise", block)
        x = normed(graph, x, f"conv{index}.pointwise", int(channels * width), 1, activation=relu6)
    x = graph.flatten(graph.global_average_pool(x, "avgpool"), "flatten")
    return graph.model(logits=graph.linear(x, "fc", CLASSES))
