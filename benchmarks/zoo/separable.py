"""ReLU, depthwise and pointwise convolution: what NASNet and RandWire are made of."""

from __future__ import annotations

from .building import GraphBuilder, Pair, Value


def relu_conv(graph: GraphBuilder, x: Value, name: str, channels: int, stride: Pair = 1) -> Value:
    """A ReLU and a 1x1 convolution with bias."""
    return graph.conv(graph.relu(x, f"{name}.relu"), name, channels, 1, stride, bias=True)


def relu_separable(
    graph: GraphBuilder,
    x: Value,
    name: str,
    channels: int,
    kernel: int,
    stride: int = 1,
    gain: float = 2.0,
) -> Value:
    """A ReLU, a padded depthwise and a pointwise convolution of ``gain``, with biases.

    Nothing rectifies between the two, so the depthwise one keeps a gain of 1; the ReLU before
    it halves the second moment, which the pointwise one's gain makes up for.
    """
    x = graph.relu(x, f"{name}.relu")
    x = graph.conv(
        x, f"{name}.depthwise", x.channels, kernel, stride, kernel // 2,
        groups=x.channels, bias=True, gain=1.0,
    )  # fmt: skip
    return graph.conv(x, f"{name}.pointwise", channels, 1, bias=True, gain=gain)
