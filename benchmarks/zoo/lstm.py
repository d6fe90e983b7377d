"""LSTM (Hochreiter and Schmidhuber 1997): two layers, alone or as a language model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from . import variants
from .building import GraphBuilder, Value, size
from .transformer import linear

NAMES = {"lstm": "512"}
LAYERS = 2
STATE_GAIN = 16.0
"""Of weights that read states: their mean square is about 1 / 16, so gates get variance 1."""
RECURRENT_GAIN = 4.0
"""Less for those that read the last step's, else the recurrence is chaotic."""


@dataclass(frozen=True)
class Size:
    """Width of input and state, and of the vocabulary of a language model, else 0."""

    hidden: int
    words: int
    steps: int


# The named ones: Zaremba et al. 2014, section 4.1, on the Penn Treebank (the small one is of
# their code); steps are those they unroll.
SIZES = {
    "512": Size(512, 0, 64),
    "small": Size(200, 10_000, 20),
    "medium": Size(650, 10_000, 35),
    "large": Size(1500, 10_000, 35),
}


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """Two layers of 512, of 64 steps; ``small``, ``medium``, ``large``: a language model.

    ``512@16`` has 16 steps. Each layer has two biases, as ``torch.nn.LSTM(512, 512, 2)`` has.
    input: sequence, 64 x 1 x 512, float32; of a language model tokens, 35 x 1, int64.
    output: states, 64 x 1 x 512, of the second layer; logits, 35 x 1 x 10000.
    """
    name, given = variants.parse("lstm", variant, SIZES, "512", 0)
    width, words = SIZES[name].hidden, SIZES[name].words
    steps = given or SIZES[name].steps
    graph = GraphBuilder(f"lstm_{name}", seed)
    if words:
        tokens = graph.input("tokens", (steps, 1), TensorProto.INT64)
        table = graph.normal("embedding.weight", (words, width), 1.0)
        x = graph.node("Gather", [table, tokens], "embedding", (steps, 1, width))
    else:
        x = graph.input("sequence", (steps, 1, width))
    for layer in range(LAYERS):
        x = _layer(graph, x, f"lstm.{layer}", width, STATE_GAIN if layer else 1.0)
    return (
        graph.model(logits=linear(graph, x, "decoder", words)) if words else graph.model(states=x)
    )


def _layer(graph: GraphBuilder, x: Value, name: str, hidden: int, gain: float) -> Value:
    """One direction of one layer; the axis of directions is squeezed away."""
    steps, batch, width = map(size, x.shape)

    def weight(part: str, columns: int, gain: float) -> Value:
        return graph.normal(f"{name}.{part}", (1, 4 * hidden, columns), (gain / columns) ** 0.5)

    inputs = [
        x,
        weight("weight_ih", width, gain),
        weight("weight_hh", hidden, RECURRENT_GAIN),
        graph.normal(f"{name}.bias", (1, 8 * hidden), 0.05),
    ]
    shape = (steps, 1, batch, hidden)
    y = graph.node("LSTM", inputs, f"{name}.directions", shape, hidden_size=hidden)
    axes = graph.constant(f"{name}.axes", np.array([1]))
    return graph.node("Squeeze", [y, axes], name, (steps, batch, hidden))
