"""SqueezeNet 1.0 (Iandola et al. 2016, table 1) and the authors' 1.1, 2.4 times less work.

``bypass`` is 1.0 with complex bypass (figure 2, right) as inter-operator schedulers are compared
on it (Ding et al. 2021): each fire module adds its input, through a 1x1 convolution where the
channels differ; poolings round down; it ends with the global pooling.
"""

from __future__ import annotations

import onnx

from . import variants
from .building import GraphBuilder, Value

NAMES = {"squeezenet": "1.1"}
# Squeezed channels of each fire module, None for a pooling; expansions are 4 and 4 times that.
FIRES = {
    "1.0": (None, 16, 16, 32, None, 32, 48, 48, 64, None, 64),
    "1.1": (None, 16, 16, None, 32, 32, None, 48, 48, 64, 64),
    "bypass": (None, 16, 16, 32, None, 32, 48, 48, 64, None, 64),
}
STEM = {"1.0": (96, 7, 0), "1.1": (64, 3, 0), "bypass": (96, 7, 3)}
"""Channels, kernel and padding of the first convolution."""
CLASSES = 1000


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """SqueezeNet 1.0, 1.1 or bypass; ``1.1@64`` takes images of 64 x 64, not 224 x 224.

    input: image, 1 x 3 x 224 x 224, float32. output: logits, 1 x 1000. Dropout, which does
    nothing at inference, is left out, as exporters do.
    """
    version, edge = variants.parse("squeezenet", variant, FIRES, "1.1", 224)
    graph = GraphBuilder(f"squeezenet_{version.replace('.', '_')}", seed)
    channels, kernel, padding = STEM[version]
    bypass = version == "bypass"
    x = graph.input("image", (1, 3, edge, edge))
    x = graph.conv(x, "features.0", channels, kernel, 2, padding, bias=True)
    x = graph.relu(x, "features.1")
    for index, squeezed in enumerate(FIRES[version], 2):
        name = f"features.{index}"
        if squeezed is None:
            x = graph.max_pool(x, name, 3, 2, ceil_mode=not bypass)
        else:
            made = _fire(graph, x, name, squeezed, gain=1.0 if bypass else 2.0)
            x = _bypassed(graph, x, made, name) if bypass else made
    x = graph.conv(x, "classifier.1", CLASSES, 1, bias=True)
    x = graph.global_average_pool(graph.relu(x, "classifier.2"), "classifier.3")
    return graph.model(logits=graph.flatten(x, "flatten"))


def _fire(graph: GraphBuilder, x: Value, name: str, squeezed: int, gain: float) -> Value:
    """A 1x1 convolution to few channels, then 1x1 and 3x3 side by side, of ``gain``."""

    def layer(x: Value, part: str, channels: int, kernel: int, gain: float = gain) -> Value:
        y = graph.conv(x, f"{name}.{part}", channels, kernel, 1, kernel // 2, bias=True, gain=gain)
        return graph.relu(y, f"{name}.{part}_activation")

    x = layer(x, "squeeze", squeezed, 1, 2.0)
    parts = [layer(x, "expand1x1", 4 * squeezed, 1), layer(x, "expand3x3", 4 * squeezed, 3)]
    return graph.concat(parts, f"{name}.concat")


def _bypassed(graph: GraphBuilder, x: Value, made: Value, name: str) -> Value:
    """What a fire module made, and its input, added."""
    if x.channels != made.channels:
        x = graph.conv(x, f"{name}.bypass", made.channels, 1, bias=True, gain=1.0)
        x = graph.relu(x, f"{name}.bypass_activation")
    return graph.add(made, x, f"{name}.add")
