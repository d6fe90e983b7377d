"""ResNet (He et al. 2016, table 1), as torchvision has it: stride 2 on a bottleneck's 3x3."""

from __future__ import annotations

import onnx

from . import variants
from .building import RESIDUAL, GraphBuilder, Value

NAMES = {"resnet18": "18", "resnet34": "34", "resnet50": "50"}
BLOCKS = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "50": (3, 4, 6, 3)}
"""Residual blocks of the four stages."""
CLASSES = 1000


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """ResNet of 18, 34 or 50 layers; ``18@64`` takes images of 64 x 64 instead of 224 x 224.

    input: image, 1 x 3 x 224 x 224, float32. output: logits, 1 x 1000.
    """
    depth, edge = variants.parse("resnet", variant, BLOCKS, "18", 224)
    graph = GraphBuilder(f"resnet{depth}", seed)
    x = _layer(graph, graph.input("image", (1, 3, edge, edge)), "conv1", "bn1", (64, 7, 2))
    x = graph.max_pool(graph.relu(x, "relu"), "maxpool", 3, 2, 1)
    for stage, blocks in enumerate(BLOCKS[depth]):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            name = f"layer{stage + 1}.{block}"
            x = _block(graph, x, name, 64 << stage, stride, depth == "50")
    x = graph.flatten(graph.global_average_pool(x, "avgpool"), "flatten")
    return graph.model(logits=graph.linear(x, "fc", CLASSES))


def _layer(
    graph: GraphBuilder,
    x: Value,
    conv: str,
    norm: str,
    size: tuple[int, int, int],
    damping: float = 1.0,
    gain: float = 2.0,
) -> Value:
    """Convolution (channels, kernel, stride) that keeps the image's size, and its norm."""
    channels, kernel, stride = size
    x = graph.conv(x, conv, channels, kernel, stride, kernel // 2, gain=gain)
    return graph.batch_norm(x, norm, damping)


def _block(
    graph: GraphBuilder, x: Value, name: str, width: int, stride: int, bottleneck: bool
) -> Value:
    """The sum of x (projected where the shape changes) and two 3x3, or 1x1, 3x3 and 1x1 layers."""
    channels = 4 * width if bottleneck else width
    sizes = [(width, 3, stride), (width, 3, 1)]
    if bottleneck:
        sizes = [(width, 1, 1), (width, 3, stride), (channels, 1, 1)]
    y = x
    for index, size in enumerate(sizes, 1):
        last = index == len(sizes)
        names = (f"{name}.conv{index}", f"{name}.bn{index}")
        y = _layer(graph, y, *names, size, RESIDUAL if last else 1.0)
        y = y if last else graph.relu(y, f"{name}.relu{index}")
    if stride != 1 or x.channels != channels:
        names = (f"{name}.downsample.0", f"{name}.downsample.1")
        x = _layer(graph, x, *names, (channels, 1, stride), gain=1.0)
    return graph.relu(graph.add(y, x, f"{name}.add"), f"{name}.relu")
