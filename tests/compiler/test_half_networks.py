"""Random float16 networks against onnxruntime, whose CPU kernels compute them in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import motet
from motet.compiler.compile import compile_bundle
from motet.compiler.spec import HostOptions

STEPS = ("conv", "pool", "relu", "sigmoid", "add", "concat", "mul", "round", "softmax", "deep")


class Network:
    """Feature maps of 16 channels and one size; every step reads the last map or two."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.maps = ["x"]

    def node(self, op: str, inputs: list[str], **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def weight(self, *shape: int) -> str:
        scale = 1 / np.sqrt(np.prod(shape[1:], initial=1))
        values = (self.rng.standard_normal(shape) * scale).astype(np.float16)
        self.weights.append(numpy_helper.from_array(values, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def conv(self, value: str, channels: int = 16, size: int = 3) -> str:
        weights = [self.weight(16, channels, size, size), self.weight(16)]
        return self.node("Conv", [value, *weights], pads=[size // 2] * 4)

    def step(self, kind: str) -> str:
        last, other = self.maps[-1], self.maps[len(self.maps) // 2]
        match kind:
            case "conv":
                return self.conv(last)
            case "pool":
                return self.node("MaxPool", [last], kernel_shape=[3, 3], pads=[1] * 4)
            case "relu" | "sigmoid":
                return self.node(kind.capitalize(), [last])
            case "add":
                return self.node("Add", [last, other])
            case "concat":
                return self.conv(self.node("Concat", [last, other], axis=1), 32, 1)
            case "mul":
                return self.node("Mul", [last, self.weight(1, 16, 1, 1)])
            case "round":
                single = self.node("Cast", [last], to=TensorProto.FLOAT)
                rooted = self.node("Tanh", [single])
                return self.node("Cast", [rooted], to=TensorProto.FLOAT16)
            case "softmax":
                return self.node("Softmax", [last], axis=1)
        return self.node("MatMul", [last, self.weight(7, 7)])

    def model(self, path: Path) -> str:
        mean = self.node("GlobalAveragePool", [self.maps[-1]])
        shapes = {"x": [1, 16, 9, 7], self.maps[-1]: [1, 16, 9, 7], mean: [1, 16, 1, 1]}
        infos = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape)
            for name, shape in shapes.items()
        ]
        graph = helper.make_graph(self.nodes, "halves", infos[:1], infos[1:], self.weights)
        opset = helper.make_opsetid("", 17)
        onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
        return str(path)


@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=7), st.integers(0, 2**16))
@settings(
    max_examples=12, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_random_half_networks(tmp_path: Path, kinds: list[str], seed: int) -> None:
    network = Network(seed)
    for kind in kinds:
        network.maps.append(network.step(kind))
    path = network.model(tmp_path / "halves.onnx")
    (model,) = motet.load(motet.compile(path)).values()
    x = network.rng.standard_normal((1, 16, 9, 7)).astype(np.float16)
    reference = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for ours, theirs in zip(model.run(None, {"x": x}), reference.run(None, {"x": x}), strict=True):
        assert ours.dtype == np.float16
        # a cast of the model rounds to 2^-11; between casts both keep float32
        bound = 2e-3 * max(np.abs(theirs).max(), 1)
        assert np.abs(ours.astype(np.float64) - theirs).max() <= bound


@pytest.mark.parametrize("reassociate", [True, False])
def test_halves_are_widened_where_other_formulas_may_be_used(
    tmp_path: Path, reassociate: bool
) -> None:
    network = Network(1)
    network.maps.append(network.step("conv"))
    path = network.model(tmp_path / "halves.onnx")
    spec = motet.BundleSpec(
        models=(motet.ModelSpec(path=path),), host=HostOptions(reassociate=reassociate)
    )
    passes = {record.name for record in compile_bundle(spec).manifest.passes}
    assert ("widen_halves" in passes) == reassociate
