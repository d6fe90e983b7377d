"""Layers of transformers, as PyTorch's exporter writes them; values are batch x length x width."""

from __future__ import annotations

import numpy as np

from .building import GraphBuilder, Value, size


def scalar(graph: GraphBuilder, name: str, value: float) -> Value:
    """A constant of no dimensions, float32."""
    return graph.constant(name, np.array(value, np.float32))


def binary(graph: GraphBuilder, op_type: str, x: Value, y: Value, name: str) -> Value:
    """An elementwise operator of two values; ``y`` has the shape of ``x`` or fewer elements."""
    return graph.node(op_type, [x, y], name, x.shape)


def linear(graph: GraphBuilder, x: Value, name: str, features: int, gain: float = 1.0) -> Value:
    """Product with a matrix width x ``features``, and a bias."""
    width = size(x.shape[-1])
    weight = graph.normal(f"{name}.weight", (width, features), (gain / width) ** 0.5)
    product = graph.node("MatMul", [x, weight], f"{name}.matmul", (*x.shape[:-1], features))
    return binary(graph, "Add", product, graph.normal(f"{name}.bias", [features], 0.05), name)


def layer_norm(graph: GraphBuilder, x: Value, name: str, epsilon: float) -> Value:
    """Normalisation of the last axis, scale and shift near those of the identity."""
    shape = [size(x.shape[-1])]
    scale = graph.uniform(f"{name}.weight", shape, 0.8, 1.2)
    inputs = [x, scale, graph.normal(f"{name}.bias", shape, 0.1)]
    return graph.node("LayerNormalization", inputs, name, x.shape, axis=-1, epsilon=epsilon)


def gelu(graph: GraphBuilder, x: Value, name: str) -> Value:
    """Of x: x / 2 (1 + erf(x / sqrt 2)), in five nodes."""
    y = binary(graph, "Div", x, scalar(graph, f"{name}.sqrt2", 2**0.5), f"{name}.div")
    y = graph.node("Erf", [y], f"{name}.erf", x.shape)
    y = binary(graph, "Add", y, scalar(graph, f"{name}.one", 1.0), f"{name}.add")
    y = binary(graph, "Mul", x, y, f"{name}.mul")
    return binary(graph, "Mul", y, scalar(graph, f"{name}.half", 0.5), name)


def feed_forward(
    graph: GraphBuilder, x: Value, names: tuple[str, str], hidden: int, gain: float = 1.0
) -> Value:
    """A linear layer to ``hidden`` features, GELU, and one back, of ``gain``."""
    y = gelu(graph, linear(graph, x, names[0], hidden, 2.0), f"{names[0]}.gelu")
    return linear(graph, y, names[1], size(x.shape[-1]), gain)


def split_heads(graph: GraphBuilder, x: Value, name: str, heads: int) -> Value:
    """From batch x length x width to batch x heads x length x width / heads."""
    batch, length, width = map(size, x.shape)
    x = graph.reshape(x, f"{name}.reshape", (batch, length, heads, width // heads))
    return graph.transpose(x, name, (0, 2, 1, 3))


def attention(
    graph: GraphBuilder, q: Value, k: Value, v: Value, name: str, mask: Value | None = None
) -> Value:
    """softmax(q k^T / sqrt(d) + mask) v with heads side by side again.

    q, k, v: batch x heads x length x d. mask: broadcast to batch x heads x length x length.
    """
    batch, heads, length, depth = map(size, q.shape)
    scores = (batch, heads, length, length)
    transposed = graph.transpose(k, f"{name}.transposed", (0, 1, 3, 2))
    y = graph.node("MatMul", [q, transposed], f"{name}.scores", scores)
    y = binary(graph, "Div", y, scalar(graph, f"{name}.sqrt", depth**0.5), f"{name}.scaled")
    if mask is not None:
        y = binary(graph, "Add", y, mask, f"{name}.masked")
    y = graph.node("Softmax", [y], f"{name}.softmax", scores, axis=-1)
    y = graph.node("MatMul", [y, v], f"{name}.context", q.shape)
    y = graph.transpose(y, f"{name}.merge", (0, 2, 1, 3))
    return graph.reshape(y, name, (batch, length, heads * depth))
