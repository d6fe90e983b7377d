"""8-bit models on an array with signed bytes: its integers are the host's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import motet
from motet.cli import motet as command


class _Layers:
    """Layers with weights of 8 bits a channel, between quantisation and dequantisation."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []

    def const(self, values: Any, dtype: Any) -> str:
        array = np.asarray(values, dtype)
        self.stored.append(numpy_helper.from_array(array, f"c{len(self.stored)}"))
        return self.stored[-1].name

    def node(self, op: str, *inputs: str, **attrs: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attrs))
        return name

    def rounded(self, x: str, scale: float, zero: int, dtype: str) -> str:
        parameters = self.const(scale, "float32"), self.const(zero, dtype)
        quantized = self.node("QuantizeLinear", x, *parameters)
        return self.node("DequantizeLinear", quantized, *parameters)

    def weights(self, *shape: int) -> str:
        values = self.const(self.rng.integers(-127, 128, shape), "int8")
        return self.node(
            "DequantizeLinear", values, self.const(np.linspace(0.001, 0.002, shape[0]), "float32"),
            self.const(np.zeros(shape[0]), "int8"), axis=0,
        )  # fmt: skip

    def save(self, path: Path, result: str, shape: list[int]) -> Path:
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes, "g", [info("x", TensorProto.FLOAT, shape)],
            [info(result, TensorProto.FLOAT, None)], self.stored,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 21)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
        return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Dense, depthwise, attention of computed operands and a product; every kind of zero point."""
    net = _Layers()
    x = net.rounded("x", 0.03, 120, "uint8")
    bias = net.const(net.rng.standard_normal(8), "float32")
    x = net.node("Relu", net.node("Conv", x, net.weights(8, 3, 3, 3), bias, pads=[1] * 4))
    x = net.rounded(x, 0.02, 0, "uint8")
    x = net.node("Conv", x, net.weights(8, 1, 3, 3), group=8, pads=[1] * 4, strides=[2, 2])
    x = net.rounded(x, 0.02, -7, "int8")
    x = net.node("Conv", x, net.weights(8, 8, 1, 1))
    rows = net.node("Reshape", x, net.const([1, 8, 16], "int64"))
    left, right = (net.rounded(rows, scale, 0, "int8") for scale in (0.02, 0.03))
    x = net.node("MatMul", left, net.node("Transpose", right, perm=[0, 2, 1]))
    x = net.rounded(net.node("Flatten", x), 0.05, 3, "uint8")
    x = net.node("Gemm", x, net.weights(5, 64), transB=1)
    return net.save(tmp_path / "net.onnx", x, [1, 3, 8, 8])


@pytest.mark.parametrize("target", ["gemmini-16x16", "tiny-4x4"])
def test_the_array_computes_the_hosts_integers(model: Path, target: str):
    host, array = motet.compile(model), motet.compile(model, target=target)
    operators = array.programs["net"].operators
    products = [operator for operator in operators if operator.macs]
    assert {operator.target for operator in products} == {"array"}
    assert all(operator.integer_macs == operator.macs for operator in products)
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    (expected,) = motet.load(host)["net"].run(None, {"x": x})
    (result,) = motet.load(array)["net"].run(None, {"x": x})
    assert np.unique(expected).size == expected.size
    np.testing.assert_array_equal(result, expected)


def test_programs_of_the_array_multiply_bytes(model: Path):
    from motet.targets.systolic.instructions.encoding import decode

    programs = motet.compile(model, target="gemmini-16x16").array_programs
    assert {decode(data).format for data in programs.values()} == {"int8"}


@pytest.mark.parametrize("asked", ["fp32", "int8"])
def test_products_of_bytes_are_simulated_in_bytes(model: Path, asked: str):
    """Also where the float operators are asked for in bytes."""
    arguments = ["simulate", str(model), "--target", "gemmini-16x16", "--format", asked, "--json"]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.output)
    assert found["array_macs"] == found["macs"] > 0
