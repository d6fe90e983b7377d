"""Small networks as exporters write them: plain ones, and a decoder of fused operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "com.microsoft"
HEADS, SIZE, WORDS = 2, 8, 11
HIDDEN = HEADS * SIZE


class Graph:
    """Nodes and weights in the order in which they are added."""

    def __init__(self, seed: int, opset: int = 13) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, array: Any, dtype: str = "float32") -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def random(self, *shape: int) -> str:
        fan_in = max(np.prod(shape) / shape[-1], 1) if len(shape) == 2 else 4
        return self.weight(self.rng.standard_normal(shape) / np.sqrt(fan_in))

    def op(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        name = f"{op_type}_{len(self.nodes)}"
        results = [f"{name}_out{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, results, name=name, **attributes))
        return results[0]

    def fused(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        """An operator of onnxruntime's; all its outputs."""
        self.op(op_type, *inputs, outputs=outputs, domain=DOMAIN, **attributes)
        return list(self.nodes[-1].output)

    def model(self, inputs: Any, outputs: Any) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "g", inputs, outputs, self.weights)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _linear(g: Graph, x: str, rows: int, columns: int) -> str:
    return g.op("Add", g.op("MatMul", x, g.random(rows, columns)), g.random(columns))


def _layer_norm(g: Graph, x: str) -> str:
    """A LayerNormalization in the operators of opset 13."""
    centred = g.op("Sub", x, g.op("ReduceMean", x, axes=[-1]))
    square = g.op("Pow", centred, g.weight(2.0))
    variance = g.op("Add", g.op("ReduceMean", square, axes=[-1]), g.weight(1e-5))
    normal = g.op("Div", centred, g.op("Sqrt", variance))
    return g.op("Add", g.op("Mul", normal, g.random(HIDDEN)), g.random(HIDDEN))


def _gelu(g: Graph, x: str) -> str:
    bent = g.op("Add", g.op("Erf", g.op("Div", x, g.weight(np.sqrt(2)))), g.weight(1.0))
    return g.op("Mul", g.op("Mul", x, bent), g.weight(0.5))


def _heads(g: Graph, x: str, perm: list[int]) -> str:
    shape = g.weight([0, 0, HEADS, SIZE], "int64")
    return g.op("Transpose", g.op("Reshape", _linear(g, x, HIDDEN, HIDDEN), shape), perm=perm)


def _attention(g: Graph, x: str, mask: str) -> str:
    query, key = _heads(g, x, [0, 2, 1, 3]), _heads(g, x, [0, 2, 3, 1])
    value = _heads(g, x, [0, 2, 1, 3])
    scores = g.op("Div", g.op("MatMul", query, key), g.weight(np.sqrt(SIZE)))
    chances = g.op("Softmax", g.op("Add", scores, mask), axis=-1)
    joined = g.op("Transpose", g.op("MatMul", chances, value), perm=[0, 2, 1, 3])
    flat = g.op("Reshape", joined, g.weight([0, 0, HIDDEN], "int64"))
    return _linear(g, flat, HIDDEN, HIDDEN)


def bert(layers: int = 2) -> onnx.ModelProto:
    """Token ids and a mask ``[batch, 6]`` to hidden states."""
    g = Graph(3)
    places = g.random(6, HIDDEN)
    kinds = g.op("Gather", g.random(2, HIDDEN), "segments")
    words = g.op("Gather", g.random(WORDS, HIDDEN), "ids")
    x = _layer_norm(g, g.op("Add", g.op("Add", words, kinds), places))
    wide = g.op("Unsqueeze", "mask", g.weight([1], "int64"))
    wide = g.op("Unsqueeze", wide, g.weight([2], "int64"))
    off = g.op("Sub", g.weight(1.0), g.op("Cast", wide, to=TensorProto.FLOAT))
    mask = g.op("Mul", off, g.weight(-10000.0))
    for _ in range(layers):
        x = _layer_norm(g, g.op("Add", _attention(g, x, mask), x))
        inner = _gelu(g, _linear(g, x, HIDDEN, 4 * HIDDEN))
        x = _layer_norm(g, g.op("Add", _linear(g, inner, 4 * HIDDEN, HIDDEN), x))
    x = g.op("Identity", x)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [2, 6])
        for name in ("ids", "segments", "mask")
    ]
    return g.model(inputs, [helper.make_tensor_value_info(x, TensorProto.FLOAT, [2, 6, HIDDEN])])


def bert_feeds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    mask = np.array([[1] * 6, [1] * 4 + [0] * 2])
    return {
        "ids": rng.integers(0, WORDS, (2, 6)),
        "segments": rng.integers(0, 2, (2, 6)),
        "mask": mask,
    }


def convnet() -> onnx.ModelProto:
    """Convolutions with several activations, a residual sum, pooling and a classifier."""
    g = Graph(4)

    def conv(x: str, channels: int, filters: int, **attributes: Any) -> str:
        weight = g.weight(g.rng.standard_normal((filters, channels, 3, 3)) / (3 * channels**0.5))
        return g.op("Conv", x, weight, g.random(filters), pads=[1] * 4, **attributes)

    first = g.op("Relu", conv("image", 3, 16))
    second = g.op("LeakyRelu", conv(first, 16, 16), alpha=0.2)
    third = g.op("Relu", g.op("Add", conv(second, 16, 16), first))
    fourth = g.op("Clip", conv(third, 16, 16, strides=[2, 2]), g.weight(0.0), g.weight(6.0))
    fifth = g.op("HardSigmoid", conv(fourth, 16, 16), alpha=0.25, beta=0.5)
    sixth = g.op("MaxPool", g.op("Sigmoid", conv(fifth, 16, 16)), kernel_shape=[2, 2])
    flat = g.op("Flatten", g.op("GlobalAveragePool", sixth))
    y = g.op("Relu", g.op("Gemm", flat, g.random(16, 10), g.random(10)))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 12, 12])
    return g.model([image], [helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 10])])


def convnet_feeds() -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(2).standard_normal((1, 3, 12, 12)).astype("f")}


def _decoder_layer(
    g: Graph, x: str, normal: str, lengths: tuple[str, str], layer: int
) -> list[str]:
    """The sum before and the result of the next normalisation, and the layer's cache."""
    cos, sin = g.weight(np.cos(_ANGLES)), g.weight(np.sin(_ANGLES))
    query = g.op("MatMul", normal, g.random(DECODED, DECODED))
    key, value = (g.op("MatMul", normal, g.random(DECODED, 16)) for _ in range(2))
    caches = [f"past_{layer}_key", f"past_{layer}_value"]
    heads = {"num_heads": 2, "kv_num_heads": 1, "do_rotary": 1}
    inputs = [query, key, value, *caches, *lengths, cos, sin]
    attended, *cache = g.fused("GroupQueryAttention", *inputs, outputs=3, **heads)
    inner = g.op("MatMul", attended, g.random(DECODED, DECODED))
    more = {"outputs": 4, "epsilon": 1e-5}
    skip = g.fused("SkipSimplifiedLayerNormalization", x, inner, g.random(DECODED), **more)
    gate = g.op("MatMul", skip[0], g.random(DECODED, 24))
    up = g.op("MatMul", skip[0], g.random(DECODED, 24))
    silu = g.op("Mul", gate, g.op("Sigmoid", gate))
    down = g.op("MatMul", g.op("Mul", silu, up), g.random(24, DECODED))
    last = g.fused("SkipSimplifiedLayerNormalization", skip[3], down, g.random(DECODED), **more)
    return [last[3], last[0], *cache]


DECODED = 32
_ANGLES = np.outer(np.arange(16), 10.0 ** -np.arange(8))


def decoder(layers: int = 2) -> onnx.ModelProto:
    """A language model as onnxruntime-genai's builder writes it: tokens, mask and caches to
    logits and longer caches, all lengths symbolic.
    """
    g = Graph(5, opset=21)
    one = g.weight([1], "int64")
    count = g.op("Sub", g.op("ReduceSum", "mask", one), one)
    lengths = (
        g.op("Cast", count, to=TensorProto.INT32),
        g.op("Cast", g.op("Gather", g.op("Shape", "mask"), one), to=TensorProto.INT32),
    )
    x = g.op("Gather", g.random(WORDS, DECODED), "tokens")
    normal = g.op("SimplifiedLayerNormalization", x, g.random(DECODED), epsilon=1e-5, axis=-1)
    caches = []
    for layer in range(layers):
        x, normal, *cache = _decoder_layer(g, x, normal, lengths, layer)
        caches += cache
    logits = g.op("MatMul", normal, g.random(DECODED, WORDS))
    infos = [
        helper.make_tensor_value_info(f"past_{i}_{kind}", TensorProto.FLOAT, ["b", 1, "p", 16])
        for i in range(layers)
        for kind in ("key", "value")
    ]
    for name, length in (("tokens", "s"), ("mask", "t")):
        infos.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["b", length]))
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in (logits, *caches)]
    return g.model(infos, outputs)
