"""Products of computed integers, and of channels with scales, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import motet


class _Graph:
    """Nodes between quantisation and dequantisation, of inputs of 8 bits."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []

    def const(self, values: Any, dtype: Any = None) -> str:
        name = f"c{len(self.stored)}"
        array = np.asarray(values, dtype)
        self.stored.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, *inputs: str, **attrs: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attrs))
        return name

    def rounded(self, x: str, scale: Any, zero: Any, dtype: str = "uint8", axis: int = 1) -> str:
        """``x`` quantised and dequantised."""
        parameters = self.const(scale, "float32"), self.const(zero, dtype)
        quantized = self.node("QuantizeLinear", x, *parameters, axis=axis)
        return self.node("DequantizeLinear", quantized, *parameters, axis=axis)

    def weights(self, values: Any, scale: Any) -> str:
        """Constant integers, dequantised along their first axis."""
        zeros = self.const(np.zeros(len(scale)), values.dtype)
        parameters = self.const(values), self.const(scale, "float32"), zeros
        return self.node("DequantizeLinear", *parameters, axis=0)

    def save(self, path: Path, result: str, **inputs: tuple[int, ...]) -> Path:
        shaped = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes, "g", [shaped(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
            [shaped(result, TensorProto.FLOAT, None)], self.stored,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 21)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
        return path


def compared(path: Path, **shapes: tuple[int, ...]) -> None:
    """Runs of Motet and of onnxruntime, which may differ by the rounding of their floats."""
    bundle = motet.compile(path)
    (operators,) = (program.operators for program in bundle.programs.values())
    assert sum(o.integer_macs for o in operators) == sum(o.macs for o in operators) > 0
    session = motet.load(bundle)["model"]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    peer = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    for _ in range(3):
        feeds = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
        (expected,) = peer.run(None, feeds)
        (result,) = session.run(None, feeds)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("zero", [0, 120])
def test_attention_scores_of_two_computed_operands(zero: int, tmp_path: Path):
    graph, shape = _Graph(0), (1, 2, 9, 24)
    q = graph.rounded("q", 0.02, zero)
    k = graph.node("Transpose", "k", perm=[0, 1, 3, 2])
    scores = graph.node("MatMul", q, graph.rounded(k, 0.03, zero))
    chances = graph.rounded(graph.node("Softmax", scores, axis=-1), 1 / 255, 0)
    result = graph.node("MatMul", chances, graph.rounded("v", 0.025, -3, "int8"))
    path = graph.save(tmp_path / "model.onnx", result, q=shape, k=shape, v=shape)
    compared(path, q=shape, k=shape, v=shape)


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_depthwise_with_a_scale_and_zero_point_per_channel(
    dtype: str, multiplier: int, tmp_path: Path
):
    graph, channels = _Graph(multiplier), 16
    zeros = graph.rng.integers(0, 100, channels)
    x = graph.rounded("x", graph.rng.uniform(0.01, 0.05, channels), zeros, dtype)
    outputs = channels * multiplier
    values = graph.rng.integers(-7, 8, (outputs, 1, 3, 3)).astype(np.int8)
    weights = graph.weights(values, graph.rng.uniform(0.1, 0.2, outputs))
    bias = graph.const(graph.rng.standard_normal(outputs), "float32")
    y = graph.node("Conv", x, weights, bias, group=channels, pads=[1] * 4, kernel_shape=[3, 3])
    y = graph.node("HardSwish", y)
    shape = (1, channels, 11, 13)
    compared(graph.save(tmp_path / "model.onnx", y, x=shape), x=shape)


def test_depthwise_between_other_layers_with_bounds_and_floats_between(tmp_path: Path):
    """As a quantised MobileNet has it: ReLU6, a float bias, a sum, a pooling."""
    graph, channels = _Graph(5), 16
    x = graph.rounded("x", 0.03, 128)
    values = graph.rng.integers(-7, 8, (channels, 8, 1, 1)).astype(np.int8)
    y = graph.node("Conv", x, graph.weights(values, np.full(channels, 0.02)),
                   graph.const(graph.rng.standard_normal(channels), "float32"))  # fmt: skip
    y = graph.node("Clip", y, graph.const(0, "float32"), graph.const(6, "float32"))
    y = graph.rounded(y, graph.rng.uniform(0.02, 0.03, channels), np.zeros(channels))
    values = graph.rng.integers(-7, 8, (channels, 1, 3, 3)).astype(np.int8)
    z = graph.node("Conv", y, graph.weights(values, np.full(channels, 0.05)),
                   group=channels, pads=[1] * 4, strides=[2, 2])  # fmt: skip
    z = graph.rounded(graph.node("HardSwish", z), 0.05, 4)
    values = graph.rng.integers(-7, 8, (12, channels)).astype(np.int8)
    pooled = graph.node("Flatten", graph.node("GlobalAveragePool", z))
    pooled = graph.rounded(pooled, 0.02, 0)
    result = graph.node("Gemm", pooled, graph.weights(values, np.full(12, 0.1)), transB=1)
    shape = (1, 8, 10, 10)
    compared(graph.save(tmp_path / "model.onnx", result, x=shape), x=shape)
