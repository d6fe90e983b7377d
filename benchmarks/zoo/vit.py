"""Vision transformers (Dosovitskiy et al. 2021; tiny: Touvron et al. 2021), patches of 16 x 16."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from motet.runtime.errors import SpecError

from . import variants
from .building import RESIDUAL, GraphBuilder, Value, size
from .transformer import attention, feed_forward, layer_norm, linear

NAMES = {"vit_tiny": "tiny"}


@dataclass(frozen=True)
class Size:
    """Blocks, and width of a token; the inner layer is 4 times as wide."""

    blocks: int
    width: int
    heads: int


SIZES = {
    "tiny": Size(12, 192, 3),
    "small": Size(12, 384, 6),
    "base": Size(12, 768, 12),
    "large": Size(24, 1024, 16),
}
PATCH = 16
CLASSES = 1000
EPSILON = 1e-6


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """ViT of tiny to large size; ``tiny@64`` takes images of 64 x 64 instead of 224 x 224.

    input: image, 1 x 3 x 224 x 224, float32. output: logits, 1 x 1000, of the class token.
    """
    name, edge = variants.parse("vit", variant, SIZES, "tiny", 224)
    if edge % PATCH:
        raise SpecError(f"vit cuts images into patches of {PATCH}: {edge} is no multiple of it")
    graph = GraphBuilder(f"vit_{name}", seed)
    x = _tokens(graph, graph.input("image", (1, 3, edge, edge)), SIZES[name].width)
    for block in range(SIZES[name].blocks):
        x = _block(graph, x, f"blocks.{block}", SIZES[name].heads)
    x = layer_norm(graph, x, "norm", EPSILON)
    first = graph.constant("class_token", np.array(0))
    x = graph.node("Gather", [x, first], "pool", (x.shape[0], x.shape[2]), axis=1)
    return graph.model(logits=graph.linear(x, "head", CLASSES))


def _tokens(graph: GraphBuilder, image: Value, width: int) -> Value:
    """A class token and the patches, projected, plus their positions' embeddings."""
    x = graph.conv(image, "patch_embed.proj", width, PATCH, PATCH, bias=True, gain=1.0)
    patches = size(x.shape[2]) * size(x.shape[3])
    x = graph.reshape(x, "patch_embed.flatten", (1, width, patches))
    x = graph.transpose(x, "patch_embed", (0, 2, 1))
    x = graph.concat([graph.normal("cls_token", (1, 1, width), 1.0), x], "tokens", axis=1)
    return graph.add(x, graph.normal("pos_embed", (1, patches + 1, width), 0.3), "embedded")


def _block(graph: GraphBuilder, x: Value, name: str, heads: int) -> Value:
    """Attention and feed-forward of the normalised input, each added to it, damped."""
    y = layer_norm(graph, x, f"{name}.norm1", EPSILON)
    y = attention(graph, *_queries_keys_values(graph, y, f"{name}.attn", heads), f"{name}.attn")
    y = linear(graph, y, f"{name}.attn.proj", size(x.shape[2]))
    x = graph.add(x, y, f"{name}.add1")
    y = layer_norm(graph, x, f"{name}.norm2", EPSILON)
    names = (f"{name}.mlp.fc1", f"{name}.mlp.fc2")
    y = feed_forward(graph, y, names, 4 * size(x.shape[2]), RESIDUAL)
    return graph.add(x, y, f"{name}.add2")


def _queries_keys_values(
    graph: GraphBuilder, x: Value, name: str, heads: int
) -> tuple[Value, Value, Value]:
    """One linear layer for all three, each 1 x heads x tokens x width / heads."""
    batch, tokens, width = map(size, x.shape)
    y = linear(graph, x, f"{name}.qkv", 3 * width)
    y = graph.reshape(y, f"{name}.qkv.reshape", (batch, tokens, 3, heads, width // heads))
    y = graph.transpose(y, f"{name}.qkv.transpose", (2, 0, 3, 1, 4))

    def part(index: int, letter: str) -> Value:
        number = graph.constant(f"{name}.{letter}.index", np.array(index))
        return graph.node("Gather", [y, number], f"{name}.{letter}", y.shape[1:], axis=0)

    return part(0, "q"), part(1, "k"), part(2, "v")
