"""DenseNet (Huang et al. 2017, table 1), growth 32: every layer reads all before it."""

from __future__ import annotations

import onnx

from . import variants
from .building import GraphBuilder, Value

NAMES = {"densenet121": "121"}
LAYERS = {"121": (6, 12, 24, 16), "169": (6, 12, 32, 32), "201": (6, 12, 48, 32)}
"""Dense layers of the four blocks."""
GROWTH = 32
BOTTLENECK = 4
"""A dense layer's 1x1 convolution gives 4 x GROWTH channels to its 3x3 one."""
CLASSES = 1000


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """DenseNet of 121, 169 or 201 layers; ``121@64`` takes images of 64 x 64, not 224 x 224.

    input: image, 1 x 3 x 224 x 224, float32. output: logits, 1 x 1000.
    """
    depth, edge = variants.parse("densenet", variant, LAYERS, "121", 224)
    graph = GraphBuilder(f"densenet{depth}", seed)
    x = graph.input("image", (1, 3, edge, edge))
    x = graph.conv(x, "features.conv0", 2 * GROWTH, 7, 2, 3)
    x = graph.relu(graph.batch_norm(x, "features.norm0"), "features.relu0")
    x = graph.max_pool(x, "features.pool0", 3, 2, 1)
    for index, layers in enumerate(LAYERS[depth], 1):
        for layer in range(1, layers + 1):
            x = _dense_layer(graph, x, f"features.denseblock{index}.denselayer{layer}")
        if index < len(LAYERS[depth]):
            x = _transition(graph, x, f"features.transition{index}")
    x = graph.relu(graph.batch_norm(x, "features.norm5"), "relu")
    x = graph.flatten(graph.global_average_pool(x, "avgpool"), "flatten")
    return graph.model(logits=graph.linear(x, "classifier", CLASSES))


def _dense_layer(graph: GraphBuilder, x: Value, name: str) -> Value:
    """The input and beside it GROWTH channels made from it by a 1x1 and a 3x3 convolution."""
    y = graph.relu(graph.batch_norm(x, f"{name}.norm1"), f"{name}.relu1")
    y = graph.conv(y, f"{name}.conv1", BOTTLENECK * GROWTH, 1)
    y = graph.relu(graph.batch_norm(y, f"{name}.norm2"), f"{name}.relu2")
    y = graph.conv(y, f"{name}.conv2", GROWTH, 3, 1, 1)
    return graph.concat([x, y], f"{name}.concat")


def _transition(graph: GraphBuilder, x: Value, name: str) -> Value:
    """Half the channels, on half the height and width."""
    x = graph.relu(graph.batch_norm(x, f"{name}.norm"), f"{name}.relu")
    x = graph.conv(x, f"{name}.conv", x.channels // 2, 1)
    return graph.average_pool(x, f"{name}.pool", 2, 2)
