"""`digits_transformer`: a small vision transformer (Dosovitskiy et al., ICLR 2021).

Pre-norm encoder layers with the attention written out in MatMul and Softmax,
and the mean over the tokens in place of a class token.
"""

import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.nn import functional

from training import layers
from training.digits import CLASSES, SIDE
from training.graph import GraphBuilder

PATCH = 4
TOKENS = (SIDE // PATCH) ** 2
WIDTH = 48
HEADS = 4
HEAD_WIDTH = WIDTH // HEADS
HIDDEN = 144
LAYERS = 3
DROPOUT = 0.1
POSITION_DEVIATION = 0.02


class Attention(nn.Module):
    """Multi-head self-attention: softmax(Q K^T / sqrt(head width)) V, then a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[N, tokens, width] to the same shape."""
        query, key, value = (
            part(x).reshape(-1, TOKENS, HEADS, HEAD_WIDTH).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        weights = (query @ key.transpose(2, 3) * HEAD_WIDTH**-0.5).softmax(dim=-1)
        mixed = (weights @ value).transpose(1, 2).reshape(-1, TOKENS, WIDTH)
        result: Tensor = self.project(mixed)
        return result

    def export(self, graph: GraphBuilder, name: str, x: str) -> str:
        """The nodes of one attention; heads are axis 1 between the two transpositions."""
        query = self._heads(graph, f"{name}/query", x, self.query, [0, 2, 1, 3])
        # The key is transposed at once to [N, heads, head width, tokens].
        key = self._heads(graph, f"{name}/key", x, self.key, [0, 2, 3, 1])
        value = self._heads(graph, f"{name}/value", x, self.value, [0, 2, 1, 3])
        scale = graph.scalar("attention/scale", HEAD_WIDTH**-0.5)
        scores = graph.node("MatMul", f"{name}/scores", [query, key])
        scaled = graph.node("Mul", f"{name}/scale", [scores, scale])
        weights = graph.node("Softmax", f"{name}/softmax", [scaled], axis=-1)
        mixed = graph.node("MatMul", f"{name}/mix", [weights, value])
        joined = graph.node("Transpose", f"{name}/join/transpose", [mixed], perm=[0, 2, 1, 3])
        flat = layers.reshape(graph, f"{name}/join/reshape", joined, [0, TOKENS, WIDTH])
        return layers.linear(graph, f"{name}/project", flat, self.project)

    @staticmethod
    def _heads(graph: GraphBuilder, name: str, x: str, part: nn.Linear, order: list[int]) -> str:
        """[N, tokens, width] mapped, split to [N, tokens, heads, head width] and transposed."""
        x = layers.linear(graph, name, x, part)
        x = layers.reshape(graph, f"{name}/reshape", x, [0, TOKENS, HEADS, HEAD_WIDTH])
        return graph.node("Transpose", f"{name}/transpose", [x], perm=order)


class EncoderLayer(nn.Module):
    """Attention and a Gelu MLP, each with a LayerNormalization before and a residual around."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.norm2 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, HIDDEN)
        self.down = nn.Linear(HIDDEN, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """[N, tokens, width] to the same shape."""
        x = x + self.dropout(self.attention(self.norm1(x)))
        hidden = functional.gelu(self.up(self.norm2(x)))
        result: Tensor = x + self.dropout(self.down(hidden))
        return result

    def export(self, graph: GraphBuilder, name: str, x: str) -> str:
        """The nodes of one layer."""
        y = layers.layer_norm(graph, f"{name}/norm1", x, self.norm1)
        y = self.attention.export(graph, f"{name}/attention", y)
        x = graph.node("Add", f"{name}/add1", [x, y])
        y = layers.layer_norm(graph, f"{name}/norm2", x, self.norm2)
        y = layers.linear(graph, f"{name}/mlp/up", y, self.up)
        y = layers.gelu(graph, f"{name}/mlp/gelu", y)
        y = layers.linear(graph, f"{name}/mlp/down", y, self.down)
        return graph.node("Add", f"{name}/add2", [x, y])


class Transformer(nn.Module):
    """Patch embedding, position embedding, encoder layers, mean over tokens, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, PATCH, stride=PATCH)
        self.position = nn.Parameter(POSITION_DEVIATION * torch.randn(1, TOKENS, WIDTH))
        self.layers = nn.ModuleList(EncoderLayer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.classifier = nn.Linear(WIDTH, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Image [N, 1, 32, 32] to logits [N, 10]."""
        x = self.patches(image).flatten(2).transpose(1, 2) + self.position
        for layer in self.layers:
            x = layer(x)
        result: Tensor = self.classifier(self.norm(x).mean(dim=1))
        return result

    def export(self) -> ModelProto:
        """The ONNX model with the present weights."""
        graph = GraphBuilder("digits_transformer")
        x = self._export_embedding(graph)
        for number, layer in enumerate(self.layers, start=1):
            assert isinstance(layer, EncoderLayer)
            x = layer.export(graph, f"layer{number}", x)
        x = layers.layer_norm(graph, "norm", x, self.norm)
        x = graph.node("ReduceMean", "pool/mean", [x], axes=[1], keepdims=0)
        x = layers.classifier(graph, "classifier", x, self.classifier)
        return graph.finish(x, (1, SIDE, SIDE), CLASSES)

    def _export_embedding(self, graph: GraphBuilder) -> str:
        """The nodes from the image to the tokens [N, tokens, width]."""
        x = layers.conv(graph, "embedding/patches/conv", "image", self.patches)
        x = layers.reshape(graph, "embedding/patches/reshape", x, [0, WIDTH, TOKENS])
        x = graph.node("Transpose", "embedding/patches/transpose", [x], perm=[0, 2, 1])
        position = graph.constant("embedding/position/weight", layers.values(self.position))
        return graph.node("Add", "embedding/position/add", [x, position])
