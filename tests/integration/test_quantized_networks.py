"""Random quantised networks, in both of ONNX's forms, against onnxruntime: equal integers.

Weights have seven bits, so that onnxruntime's products of bytes do not saturate.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

import motet
from motet.compiler import pipeline
from motet.passes.layout import layout


class _Network:
    """Convolutions with ReLUs, sums and a pooling, then a mean and a product."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int) -> str:
        values = self.rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def node(self, op: str, inputs: list[str], **attrs: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attrs))
        return name

    def conv(self, x: str, channels: int, outs: int, groups: int = 1, stride: int = 1) -> str:
        kernel = int(self.rng.choice([1, 3]))
        inputs = [x, self.weight(outs, channels // groups, kernel, kernel), self.weight(outs)]
        pads = [kernel // 2] * 4
        return self.node(
            "Conv", inputs, kernel_shape=[kernel] * 2, pads=pads, group=groups,
            strides=[stride] * 2,
        )  # fmt: skip

    def block(self, x: str, channels: int) -> str:
        """An inverted bottleneck with a sum, whose result has no activation."""
        wide = 2 * channels
        y = self.node("Relu", [self.conv(x, channels, wide)])
        y = self.node("Relu", [self.conv(y, wide, wide, int(self.rng.choice([1, wide])))])
        return self.node("Add", [x, self.conv(y, wide, channels)])

    def model(self) -> onnx.ModelProto:
        channels = int(self.rng.choice([8, 16, 24]))
        x = self.node("Relu", [self.conv("x", 3, channels, stride=2)])
        if self.rng.integers(2):
            x = self.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        for _ in range(2):
            x = self.block(x, channels)
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        x = self.node("Gemm", [x, self.weight(10, channels), self.weight(10)], transB=1)
        graph = helper.make_graph(
            self.nodes, "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 19, 23])],
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 10])], self.weights,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def images(self, count: int) -> Iterator[dict[str, Any]]:
        for _ in range(count):
            yield {"x": self.rng.standard_normal((1, 3, 19, 23), dtype=np.float32)}


class _Images:
    def __init__(self, images: Iterator[dict[str, Any]]) -> None:
        self._images = images

    def get_next(self) -> dict[str, Any] | None:
        """The next image, None after the last."""
        return next(self._images, None)


def _quantized(
    network: _Network, folder: Path, form: quantization.QuantFormat,
    activations: quantization.QuantType = quantization.QuantType.QUInt8,
) -> Path:  # fmt: skip
    logging.getLogger().setLevel(logging.ERROR)
    plain, path = folder / "plain.onnx", folder / "model.onnx"
    onnx.save(network.model(), plain)
    quantization.quantize_static(
        str(plain), str(path), _Images(network.images(4)), quant_format=form,
        activation_type=activations, weight_type=quantization.QuantType.QInt8,
        per_channel=True, reduce_range=True,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("form", [quantization.QuantFormat.QDQ, quantization.QuantFormat.QOperator])
@pytest.mark.parametrize("seed", range(3))
def test_random_network(seed: int, form: quantization.QuantFormat, tmp_path: Path):
    network = _Network(seed)
    path = _quantized(network, tmp_path, form)
    session = motet.load(motet.compile(path))["model"]
    peer = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for feeds in network.images(4):
        (expected,) = peer.run(None, feeds)
        (result,) = session.run(None, feeds)
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("kind", ["QUInt8", "QInt8"])
@pytest.mark.parametrize("seed", range(2))
def test_bytes_as_machines_with_vnni_have_them(
    seed: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Unsigned inputs, padded with zero points, through this machine's kernels."""
    monkeypatch.setattr(pipeline, "layout", lambda lanes, _any_bytes: layout(lanes, True))
    network = _Network(seed)
    activations = quantization.QuantType[kind]
    path = _quantized(network, tmp_path, quantization.QuantFormat.QDQ, activations)
    session = motet.load(motet.compile(path))["model"]
    peer = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for feeds in network.images(2):
        (expected,) = peer.run(None, feeds)
        (result,) = session.run(None, feeds)
        np.testing.assert_array_equal(result, expected)
