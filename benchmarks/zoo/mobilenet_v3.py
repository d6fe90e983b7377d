"""MobileNet V3 (Howard et al. 2019, tables 1 and 2), small and large, as torchvision has it."""

from __future__ import annotations

import onnx

from . import variants
from .building import GraphBuilder, Value
from .mobile import (
    Activation,
    Block,
    divisible,
    hard_swish,
    inverted_residual,
    kind_of,
    lines_of,
    normed,
    relu,
    with_kinds,
)

NAMES = {"mobilenet_v3_small": "small", "mobilenet_v3_large": "large"}
BLOCKS = {
    "large": (
        (3, 16, 16, 0, "RE", 1), (3, 64, 24, 0, "RE", 2), (3, 72, 24, 0, "RE", 1),
        (5, 72, 40, 1, "RE", 2), (5, 120, 40, 1, "RE", 1), (5, 120, 40, 1, "RE", 1),
        (3, 240, 80, 0, "HS", 2), (3, 200, 80, 0, "HS", 1), (3, 184, 80, 0, "HS", 1),
        (3, 184, 80, 0, "HS", 1), (3, 480, 112, 1, "HS", 1), (3, 672, 112, 1, "HS", 1),
        (5, 672, 160, 1, "HS", 2), (5, 960, 160, 1, "HS", 1), (5, 960, 160, 1, "HS", 1),
    ),
    "small": (
        (3, 16, 16, 1, "RE", 2), (3, 72, 24, 0, "RE", 2), (3, 88, 24, 0, "RE", 1),
        (5, 96, 40, 1, "HS", 2), (5, 240, 40, 1, "HS", 1), (5, 240, 40, 1, "HS", 1),
        (5, 120, 48, 1, "HS", 1), (5, 144, 48, 1, "HS", 1), (5, 288, 96, 1, "HS", 2),
        (5, 576, 96, 1, "HS", 1), (5, 576, 96, 1, "HS", 1),
    ),
}  # fmt: skip
"""Kernel, expanded channels, output channels, squeeze-and-excitation, nonlinearity, stride."""
HEAD = {"large": (960, 1280), "small": (576, 1024)}
"""Channels of the last convolution, features of the hidden layer."""
ACTIVATIONS: dict[str, Activation] = {"RE": relu, "HS": hard_swish}
STUDY = "study"
"""The networks of FuSeConv's study: an expansion in the first block, too, a hidden layer of 1280
in both sizes, and squeezing to exactly a quarter; its variants are of these.
"""
CLASSES = 1000
EPSILON = 1e-3


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """MobileNet V3; ``small@64`` takes images of 64 x 64 instead of 224 x 224.

    ``small-half`` has FuSeConv's rows and columns (squeeze-and-excitation of ``full`` is twice
    as wide); ``small-half50`` in the first half of the blocks; ``small-study`` is their base.

    input: image, 1 x 3 x 224 x 224, float32. output: logits, 1 x 1000. Dropout, which does
    nothing at inference, is left out, as exporters do.
    """
    text, edge = variants.parse("mobilenet_v3", variant, _names(), "large", 224)
    size, kind = kind_of(text)
    graph = GraphBuilder(f"mobilenet_v3_{text.replace('-', '_')}", seed)
    x = graph.input("image", (1, 3, edge, edge))
    x = normed(graph, x, "features.0", 16, 3, 2, activation=hard_swish, epsilon=EPSILON)
    for index, (kernel, expanded, channels, squeeze, what, stride) in enumerate(BLOCKS[size], 1):
        squeezed = (expanded // 4 if kind else divisible(expanded / 4)) if squeeze else 0
        lines = lines_of(kind.removeprefix(STUDY), index - 1, range(len(BLOCKS[size]) // 2))
        act = ACTIVATIONS[what]
        block = Block(kernel, expanded, channels, stride, act, squeezed, lines, bool(kind))
        x = inverted_residual(graph, x, f"features.{index}", block, EPSILON)
    return graph.model(logits=_head(graph, x, size, 1280 if kind else HEAD[size][1]))


def _names() -> list[str]:
    return [*with_kinds(BLOCKS), *(f"{size}-{STUDY}" for size in BLOCKS)]


def _head(graph: GraphBuilder, x: Value, size: str, hidden: int) -> Value:
    """The efficient last stage (section 5.1): pooled before the widest layer."""
    last = HEAD[size][0]
    x = normed(graph, x, "features.last", last, 1, activation=hard_swish, epsilon=EPSILON)
    x = graph.flatten(graph.global_average_pool(x, "avgpool"), "flatten")
    x = graph.linear(x, "classifier.0", hidden, gain=2.0)
    return graph.linear(hard_swish(graph, x, "classifier.1"), "classifier.3", CLASSES)
