"""VGG (Simonyan and Zisserman 2015, table 1): 3x3 convolutions and three great linear layers."""

from __future__ import annotations

import onnx

from . import variants
from .building import GraphBuilder, Value

NAMES = {"vgg19": "19"}
CONVOLUTIONS = {
    "11": (1, 1, 2, 2, 2),
    "13": (2, 2, 2, 2, 2),
    "16": (2, 2, 3, 3, 3),
    "19": (2, 2, 4, 4, 4),
    "19-narrow": (2, 2, 4, 4, 4),
}
"""Between two poolings: configurations A, B, D and E; the narrow one is not of the paper."""
CHANNELS = (64, 128, 256, 512, 512)
HIDDEN = 4096
NARROW = 8
"""What the narrow variant divides all channels by: a VGG of 2 MB."""
CLASSES = 1000


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """VGG of 11, 13, 16 or 19 layers; ``19@64`` takes images of 64 x 64, not 224 x 224.

    input: image, 1 x 3 x 224 x 224, float32. output: logits, 1 x 1000. The first linear
    layer reads what the last pooling gives, 7 x 7 at 224. ``19-narrow`` has an eighth of the
    channels. Weights of 19 at 224 are 575 MB. Dropout is left out, as exporters do.
    """
    depth, edge = variants.parse("vgg", variant, CONVOLUTIONS, "19", 224)
    divisor = NARROW if depth == "19-narrow" else 1
    graph = GraphBuilder(f"vgg{depth.replace('-', '_')}", seed)
    x = graph.input("image", (1, 3, edge, edge))
    for block, count in enumerate(CONVOLUTIONS[depth], 1):
        for layer in range(1, count + 1):
            name = f"features.{block}.{layer}"
            channels = CHANNELS[block - 1] // divisor
            x = graph.relu(graph.conv(x, name, channels, 3, 1, 1, bias=True), f"{name}.relu")
        x = graph.max_pool(x, f"features.{block}.pool", 2, 2)
    return graph.model(logits=_classifier(graph, x, HIDDEN // divisor))


def _classifier(graph: GraphBuilder, x: Value, hidden: int) -> Value:
    x = graph.flatten(x, "flatten")
    for name in ("classifier.0", "classifier.3"):
        x = graph.relu(graph.linear(x, name, hidden, gain=2.0), f"{name}.relu")
    return graph.linear(x, "classifier.6", CLASSES)
