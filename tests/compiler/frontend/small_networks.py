"""A BERT-like and a convolutional network in plain ONNX, as exporters write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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

    def model(self, inputs: Any, outputs: Any) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "g", inputs, outputs, self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
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
