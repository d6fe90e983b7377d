"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019, table 1) for phones and TPUs.

Without squeeze-and-excitation and with ReLU6 for swish, as Google's TPU models have it
(tpu/models/official/efficientnet/lite).
"""

from __future__ import annotations

import onnx

from . import variants
from .building import GraphBuilder
from .mobile import Block, inverted_residual, normed, relu6

NAMES = {"efficientnet_lite0": "lite0"}
GROUPS = (
    (3, 1, 16, 1, 1), (3, 6, 24, 2, 2), (5, 6, 40, 2, 2), (3, 6, 80, 3, 2),
    (5, 6, 112, 3, 1), (5, 6, 192, 4, 2), (3, 6, 320, 1, 1),
)  # fmt: skip
"""Kernel, expansion factor, output channels, blocks, stride of the first."""
CLASSES = 1000
EPSILON = 1e-3


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """EfficientNet-Lite0; ``lite0@64`` takes images of 64 x 64 instead of 224 x 224.

    input: image, 1 x 3 x 224 x 224, float32. output: logits, 1 x 1000. Padding is
    symmetric, as in timm's ``efficientnet_lite0``.
    """
    name, edge = variants.parse("efficientnet_lite0", variant, ["lite0"], "lite0", 224)
    graph = GraphBuilder(f"efficientnet_{name}", seed)
    x = graph.input("image", (1, 3, edge, edge))
    x = normed(graph, x, "stem", 32, 3, 2, activation=relu6, epsilon=EPSILON)
    for stage, (kernel, factor, channels, count, first_stride) in enumerate(GROUPS):
        for index in range(count):
            stride = 1 if index else first_stride
            block = Block(kernel, factor * x.channels, channels, stride, relu6)
            x = inverted_residual(graph, x, f"blocks.{stage}.{index}", block, EPSILON)
    x = normed(graph, x, "head", 1280, 1, activation=relu6, epsilon=EPSILON)
    x = graph.flatten(graph.global_average_pool(x, "avgpool"), "flatten")
    return graph.model(logits=graph.linear(x, "classifier", CLASSES))
