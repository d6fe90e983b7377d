"""Inception V3 (Szegedy et al. 2016, table 1), in torchvision's layout: modules A to E.

``plain`` is what inter-operator schedulers are compared on (Ding et al. 2021): convolutions
with biases instead of batch normalisation, up to the global pooling, 119 operators in 13
blocks. ``torchvision`` has both, and the classifier.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

from . import variants
from .building import GraphBuilder, Pair, Value, pair

NAMES = {"inception_v3": "plain"}
VARIANTS = ("plain", "torchvision")
CLASSES = 1000

Layer = Callable[..., Value]
"""(x, name, channels, kernel, stride=1, padding=0) -> convolution and ReLU."""


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """Inception V3; ``plain@75`` takes images of 75 x 75, the smallest, instead of 299 x 299.

    input: image, 1 x 3 x 299 x 299, float32. output: features, 1 x 2048, of ``plain``;
    logits, 1 x 1000, of ``torchvision``.
    """
    kind, edge = variants.parse("inception_v3", variant, VARIANTS, "plain", 299)
    graph = GraphBuilder(f"inception_v3_{kind}", seed)
    layer = _layer(graph, normalised=kind == "torchvision")
    x = _stem(graph, layer, graph.input("image", (1, 3, edge, edge)))
    for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
        x = _module_a(graph, layer, x, name, pooled)
    x = _module_b(graph, layer, x, "Mixed_6a")
    for letter, narrow in zip("bcde", (128, 160, 160, 192), strict=True):
        x = _module_c(graph, layer, x, f"Mixed_6{letter}", narrow)
    x = _module_d(graph, layer, x, "Mixed_7a")
    for name in ("Mixed_7b", "Mixed_7c"):
        x = _module_e(graph, layer, x, name)
    x = graph.flatten(graph.global_average_pool(x, "avgpool"), "flatten")
    if kind == "plain":
        return graph.model(features=x)
    return graph.model(logits=graph.linear(x, "fc", CLASSES))


def _layer(graph: GraphBuilder, *, normalised: bool) -> Layer:
    def layer(
        x: Value, name: str, channels: int, kernel: Pair, stride: Pair = 1, padding: Pair = 0
    ) -> Value:
        if normalised:
            y = graph.conv(x, f"{name}.conv", channels, kernel, stride, padding)
            y = graph.batch_norm(y, f"{name}.bn", epsilon=1e-3)
        else:
            y = graph.conv(x, f"{name}.conv", channels, kernel, stride, padding, bias=True)
        return graph.relu(y, f"{name}.relu")

    return layer


def _stem(graph: GraphBuilder, layer: Layer, x: Value) -> Value:
    x = layer(x, "Conv2d_1a_3x3", 32, 3, 2)
    x = layer(x, "Conv2d_2a_3x3", 32, 3)
    x = layer(x, "Conv2d_2b_3x3", 64, 3, 1, 1)
    x = graph.max_pool(x, "maxpool1", 3, 2)
    x = layer(x, "Conv2d_3b_1x1", 80, 1)
    x = layer(x, "Conv2d_4a_3x3", 192, 3)
    return graph.max_pool(x, "maxpool2", 3, 2)


def _chain(layer: Layer, x: Value, name: str, *parts: tuple[int, Pair]) -> Value:
    """Convolutions one after another, (channels, kernel) each, padded to keep the size."""
    for index, (channels, kernel) in enumerate(parts, 1):
        height, width = pair(kernel)
        x = layer(x, f"{name}_{index}", channels, kernel, 1, (height // 2, width // 2))
    return x


def _pooled(graph: GraphBuilder, layer: Layer, x: Value, name: str, channels: int) -> Value:
    """The branch of a 3x3 average and a 1x1 convolution."""
    y = graph.average_pool(x, f"{name}.pool", 3, 1, 1)
    return layer(y, f"{name}.branch_pool", channels, 1)


def _module_a(graph: GraphBuilder, layer: Layer, x: Value, name: str, pooled: int) -> Value:
    """Figure 5: 1x1, 5x5, two 3x3, and pooling side by side."""
    parts = [
        layer(x, f"{name}.branch1x1", 64, 1),
        _chain(layer, x, f"{name}.branch5x5", (48, 1), (64, 5)),
        _chain(layer, x, f"{name}.branch3x3dbl", (64, 1), (96, 3), (96, 3)),
        _pooled(graph, layer, x, name, pooled),
    ]
    return graph.concat(parts, f"{name}.concat")


def _module_b(graph: GraphBuilder, layer: Layer, x: Value, name: str) -> Value:
    """Figure 10: half the height and width."""
    double = _chain(layer, x, f"{name}.branch3x3dbl", (64, 1), (96, 3))
    parts = [
        layer(x, f"{name}.branch3x3", 384, 3, 2),
        layer(double, f"{name}.branch3x3dbl_3", 96, 3, 2),
        graph.max_pool(x, f"{name}.pool", 3, 2),
    ]
    return graph.concat(parts, f"{name}.concat")


def _module_c(graph: GraphBuilder, layer: Layer, x: Value, name: str, narrow: int) -> Value:
    """Figure 6: 7x7 convolutions as rows and columns."""
    row, column = (1, 7), (7, 1)
    double = ((narrow, 1), (narrow, column), (narrow, row), (narrow, column), (192, row))
    parts = [
        layer(x, f"{name}.branch1x1", 192, 1),
        _chain(layer, x, f"{name}.branch7x7", (narrow, 1), (narrow, row), (192, column)),
        _chain(layer, x, f"{name}.branch7x7dbl", *double),
        _pooled(graph, layer, x, name, 192),
    ]
    return graph.concat(parts, f"{name}.concat")


def _module_d(graph: GraphBuilder, layer: Layer, x: Value, name: str) -> Value:
    """Half the height and width again."""
    long = _chain(layer, x, f"{name}.branch7x7x3", (192, 1), (192, (1, 7)), (192, (7, 1)))
    short = layer(x, f"{name}.branch3x3_1", 192, 1)
    parts = [
        layer(short, f"{name}.branch3x3_2", 320, 3, 2),
        layer(long, f"{name}.branch7x7x3_4", 192, 3, 2),
        graph.max_pool(x, f"{name}.pool", 3, 2),
    ]
    return graph.concat(parts, f"{name}.concat")


def _module_e(graph: GraphBuilder, layer: Layer, x: Value, name: str) -> Value:
    """Figure 7: 3x3 convolutions that end in a row and a column side by side."""

    def split(x: Value, branch: str) -> list[Value]:
        return [
            layer(x, f"{branch}a", 384, (1, 3), 1, (0, 1)),
            layer(x, f"{branch}b", 384, (3, 1), 1, (1, 0)),
        ]

    single = layer(x, f"{name}.branch3x3_1", 384, 1)
    double = _chain(layer, x, f"{name}.branch3x3dbl", (448, 1), (384, 3))
    parts = [
        layer(x, f"{name}.branch1x1", 320, 1),
        *split(single, f"{name}.branch3x3_2"),
        *split(double, f"{name}.branch3x3dbl_3"),
        _pooled(graph, layer, x, name, 192),
    ]
    return graph.concat(parts, f"{name}.concat")
