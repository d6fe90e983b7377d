"""ShuffleNet V2 (Ma et al. 2018, table 5), as torchvision has it: split, convolve, shuffle."""

from __future__ import annotations

import numpy as np
import onnx

from . import variants
from .building import GraphBuilder, Value

NAMES = {"shufflenet_v2": "x1.0"}
CHANNELS = {
    "x0.5": (24, 48, 96, 192, 1024),
    "x1.0": (24, 116, 232, 464, 1024),
    "x1.5": (24, 176, 352, 704, 1024),
    "x2.0": (24, 244, 488, 976, 2048),
}
"""Of the first convolution, the three stages, the last convolution."""
UNITS = (4, 8, 4)
"""Of each stage; the first halves height and width."""
CLASSES = 1000


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """ShuffleNet V2 of width 0.5 to 2; ``x1.0@64`` takes images of 64 x 64, not 224 x 224.

    input: image, 1 x 3 x 224 x 224, float32. output: logits, 1 x 1000.
    """
    width, edge = variants.parse("shufflenet_v2", variant, CHANNELS, "x1.0", 224)
    first, *stages, last = CHANNELS[width]
    graph = GraphBuilder(f"shufflenet_v2_{width.replace('.', '_')}", seed)
    x = _conv(graph, graph.input("image", (1, 3, edge, edge)), "conv1", first, 3, 2)
    x = graph.max_pool(x, "maxpool", 3, 2, 1)
    for stage, (channels, units) in enumerate(zip(stages, UNITS, strict=True), 2):
        for unit in range(units):
            make = _halving_unit if unit == 0 else _unit
            x = make(graph, x, f"stage{stage}.{unit}", channels // 2)
    x = _conv(graph, x, "conv5", last, 1)
    x = graph.node("ReduceMean", [x], "mean", x.shape[:2], axes=[2, 3], keepdims=0)
    return graph.model(logits=graph.linear(x, "fc", CLASSES))


def _unit(graph: GraphBuilder, x: Value, name: str, half: int) -> Value:
    """Half of the channels as they are, the other half convolved, then shuffled."""
    kept, convolved = _split(graph, x, f"{name}.chunk")
    return _shuffled(graph, [kept, _branch(graph, convolved, f"{name}.branch2", half)], name)


def _halving_unit(graph: GraphBuilder, x: Value, name: str, half: int) -> Value:
    """Two branches of all channels, both on half the height and width."""
    left = _depthwise(graph, x, f"{name}.branch1.0", 2)
    left = _conv(graph, left, f"{name}.branch1.2", half, 1)
    return _shuffled(graph, [left, _branch(graph, x, f"{name}.branch2", half, 2)], name)


def _branch(graph: GraphBuilder, x: Value, name: str, half: int, stride: int = 1) -> Value:
    """1x1, depthwise 3x3, 1x1."""
    x = _conv(graph, x, f"{name}.0", half, 1)
    return _conv(graph, _depthwise(graph, x, f"{name}.3", stride), f"{name}.5", half, 1)


def _conv(
    graph: GraphBuilder, x: Value, name: str, channels: int, kernel: int, stride: int = 1
) -> Value:
    x = graph.conv(x, name, channels, kernel, stride, kernel // 2)
    return graph.relu(graph.batch_norm(x, f"{name}.norm"), f"{name}.relu")


def _depthwise(graph: GraphBuilder, x: Value, name: str, stride: int) -> Value:
    """3x3 on each channel by itself, without an activation behind."""
    x = graph.conv(x, name, x.channels, 3, stride, 1, groups=x.channels, gain=1.0)
    return graph.batch_norm(x, f"{name}.norm")


def _split(graph: GraphBuilder, x: Value, name: str) -> tuple[Value, Value]:
    """The first and the second half of the channels."""
    half = x.channels // 2
    sizes = graph.constant(f"{name}.sizes", np.array([half, half]))
    shape = (x.shape[0], half, *x.shape[2:])
    first, second = graph.nodes("Split", [x, sizes], name, (shape, shape), axis=1)
    return first, second


def _shuffled(graph: GraphBuilder, parts: list[Value], name: str) -> Value:
    """The two parts, channel by channel in turns."""
    x = graph.concat(parts, f"{name}.concat")
    batch, channels, height, width = map(int, x.shape)
    grouped = (batch, 2, channels // 2, height, width)
    y = graph.reshape(x, f"{name}.group", grouped)
    y = graph.transpose(y, f"{name}.shuffle", (0, 2, 1, 3, 4))
    return graph.reshape(y, f"{name}.ungroup", (batch, channels, height, width))
