"""BERT (Devlin et al. 2019; the small ones Turc et al. 2019): embeddings, layers, pooler."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from motet.runtime.errors import SpecError

from . import variants
from .building import GraphBuilder, Value
from .transformer import attention, binary, feed_forward, layer_norm, linear, scalar, split_heads

NAMES = {"bert_base": "base"}


@dataclass(frozen=True)
class Size:
    """Layers, and width of the hidden state; a head is 64 wide, the inner layer 4 times."""

    layers: int
    hidden: int


SIZES = {
    "tiny": Size(2, 128),
    "mini": Size(4, 256),
    "small": Size(4, 512),
    "medium": Size(8, 512),
    "base": Size(12, 768),
    "large": Size(24, 1024),
}
HEAD = 64
WORDS, POSITIONS, TYPES = 30522, 512, 2
"""Rows of the embedding tables: the uncased vocabulary."""
EPSILON = 1e-12


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """BERT of tiny to large size; ``base@384`` reads 384 tokens instead of 128.

    inputs: input_ids, attention_mask (1 where a token counts), token_type_ids, 1 x 128, int64.
    outputs: last_hidden_state, 1 x 128 x hidden; pooler_output, 1 x hidden; float32.
    """
    name, length = variants.parse("bert", variant, SIZES, "base", 128)
    if length > POSITIONS:
        raise SpecError(f"bert reads at most {POSITIONS} tokens, not {length}: choose fewer")
    size = SIZES[name]
    graph = GraphBuilder(f"bert_{name}", seed)
    names = ("input_ids", "attention_mask", "token_type_ids")
    ids, mask, types = (graph.input(name, (1, length), TensorProto.INT64) for name in names)
    x = _embeddings(graph, ids, types, size.hidden)
    mask = _additive_mask(graph, mask)
    for layer in range(size.layers):
        x = _layer(graph, x, mask, f"encoder.layer.{layer}")
    return graph.model(last_hidden_state=x, pooler_output=_pooler(graph, x))


def _embeddings(graph: GraphBuilder, ids: Value, types: Value, hidden: int) -> Value:
    """Sum of the embeddings of word, type and position, normalised."""
    shape = (*ids.shape, hidden)

    def table(name: str, rows: int) -> Value:
        return graph.normal(f"embeddings.{name}.weight", (rows, hidden), 0.5)

    word = graph.node("Gather", [table("word", WORDS), ids], "embeddings.word", shape)
    type_ = graph.node("Gather", [table("token_type", TYPES), types], "embeddings.type", shape)
    numbers = graph.constant("embeddings.position_ids", np.arange(int(ids.shape[1]))[None])
    rows = [table("position", POSITIONS), numbers]
    position = graph.node("Gather", rows, "embeddings.position", shape)
    x = graph.add(graph.add(word, type_, "embeddings.add"), position, "embeddings.sum")
    return layer_norm(graph, x, "embeddings.norm", EPSILON)


def _additive_mask(graph: GraphBuilder, mask: Value) -> Value:
    """0 where a token counts, the least float where not: 1 x 1 x 1 x length."""
    axes = graph.constant("mask.axes", np.array([1, 2]))
    shape = (1, 1, 1, mask.shape[1])
    x = graph.node("Unsqueeze", [mask, axes], "mask.unsqueeze", shape)
    x = graph.node("Cast", [x], "mask.cast", shape, to=TensorProto.FLOAT)
    x = graph.node("Sub", [scalar(graph, "mask.one", 1.0), x], "mask.sub", shape)
    return binary(
        graph, "Mul", x, scalar(graph, "mask.least", float(np.finfo(np.float32).min)), "mask"
    )


def _layer(graph: GraphBuilder, x: Value, mask: Value, name: str) -> Value:
    """Attention and feed-forward, each added to its input and then normalised."""
    width = int(x.shape[2])

    def heads(part: str) -> Value:
        y = linear(graph, x, f"{name}.{part}", width)
        return split_heads(graph, y, f"{name}.{part}.heads", width // HEAD)

    y = attention(graph, heads("query"), heads("key"), heads("value"), f"{name}.attention", mask)
    y = graph.add(linear(graph, y, f"{name}.attention.output", width), x, f"{name}.attention.add")
    x = layer_norm(graph, y, f"{name}.attention.norm", EPSILON)
    y = feed_forward(graph, x, (f"{name}.intermediate", f"{name}.output"), 4 * width)
    return layer_norm(graph, graph.add(y, x, f"{name}.output.add"), f"{name}.norm", EPSILON)


def _pooler(graph: GraphBuilder, x: Value) -> Value:
    """A linear layer and tanh on the first token."""
    first = graph.constant("pooler.first", np.array(0))
    shape = (x.shape[0], x.shape[2])
    y = graph.node("Gather", [x, first], "pooler.gather", shape, axis=1)
    return graph.node("Tanh", [graph.linear(y, "pooler", y.channels)], "pooler.tanh", shape)
