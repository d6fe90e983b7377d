"""Random networks of convolutions: with and without blocked layouts, equal to onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import motet


class _Network:
    """A random graph of what convolutional networks are made of, on (N, C, H, W) values."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, int, int, int]] = {}

    def pick(self, *choices: int) -> int:
        return int(self.rng.choice(choices))

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        values = self.rng.normal(0, 1 / np.sqrt(np.prod(shape[1:]) or 1), shape)
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def ints(self, values: list[int]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def node(self, op: str, inputs: list[str], shape: tuple[int, ...], **attrs: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attrs))
        self.shapes[name] = shape  # type: ignore[assignment]
        return name

    def conv(self, x: str) -> str:
        n, c, h, w = self.shapes[x]
        kernel, stride = self.pick(1, 3, 3, 5), self.pick(1, 1, 2)
        kernel = min(kernel, h, w)
        kind = self.pick(0, 0, 1, 2)
        groups = c if kind == 1 else 2 if kind == 2 and c % 16 == 0 else 1
        outs = c if groups == c else self.pick(8, 16, 24, 32, 5) if groups == 1 else 32
        pad = kernel // 2
        size = [(d + 2 * pad - kernel) // stride + 1 for d in (h, w)]
        return self.node(
            "Conv", [x, self.weight(outs, c // groups, kernel, kernel), self.weight(outs)],
            (n, outs, *size), kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4,
            group=groups,
        )  # fmt: skip

    def activation(self, x: str) -> str:
        kind = self.pick(0, 1, 2, 3)
        if kind == 3:
            return self.node("PRelu", [x, self.weight(self.shapes[x][1], 1, 1)], self.shapes[x])
        return self.node(("Relu", "HardSwish", "Sigmoid")[kind], [x], self.shapes[x])

    def scaled(self, x: str) -> str:
        channels = self.shapes[x][1]
        y = self.node("Mul", [x, self.weight(1, channels, 1, 1)], self.shapes[x])
        y = self.node("Add", [y, self.weight(channels, 1, 1)], self.shapes[x])
        return self.node("Relu", [y], self.shapes[x])

    def partner(self, x: str, same_channels: bool) -> str:
        fits = [
            v for v, s in self.shapes.items()
            if s[2:] == self.shapes[x][2:] and (not same_channels or s[1] == self.shapes[x][1])
        ]  # fmt: skip
        return str(self.rng.choice(fits))

    def add(self, x: str) -> str:
        return self.node("Add", [x, self.partner(x, True)], self.shapes[x])

    def concat(self, x: str) -> str:
        other = self.partner(x, False)
        n, c, h, w = self.shapes[x]
        return self.node("Concat", [x, other], (n, c + self.shapes[other][1], h, w), axis=1)

    def pool(self, x: str) -> str:
        n, c, h, w = self.shapes[x]
        if min(h, w) < 3:
            return x
        op = ("MaxPool", "AveragePool")[self.pick(0, 1)]
        size = [(d + 2 - 3) // 2 + 1 for d in (h, w)]
        return self.node(
            op, [x], (n, c, *size), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
        )  # fmt: skip

    def gate(self, x: str) -> str:
        n, c, _, _ = self.shapes[x]
        mean = self.node("GlobalAveragePool", [x], (n, c, 1, 1))
        gate = self.node("Conv", [mean, self.weight(c, c, 1, 1)], (n, c, 1, 1), kernel_shape=[1, 1])
        del self.shapes[mean], self.shapes[gate]
        self.nodes.append(helper.make_node("Sigmoid", [gate], [f"g{gate}"]))
        return self.node("Mul", [x, f"g{gate}"], self.shapes[x])

    def cut(self, x: str) -> str:
        n, c, h, w = self.shapes[x]
        begin, end = (8, c) if c > 8 else (0, max(1, c // 2))
        bounds = [self.ints([begin]), self.ints([end]), self.ints([1])]
        return self.node("Slice", [x, *bounds], (n, end - begin, h, w))

    def doubled(self, x: str) -> str:
        n, c, h, w = self.shapes[x]
        if h > 12:
            return x
        scales = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), scales))
        return self.node(
            "Resize", [x, "", scales], (n, c, 2 * h, 2 * w), mode="nearest",
            coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip

    def model(self, steps: int) -> onnx.ModelProto:
        shape = (self.pick(1, 1, 2), self.pick(3, 8, 16), self.pick(7, 12), self.pick(8, 13))
        self.shapes["x"] = shape
        choices = [
            self.conv, self.conv, self.conv, self.activation, self.scaled, self.add, self.concat,
            self.pool, self.gate, self.cut, self.doubled,
        ]  # fmt: skip
        at = self.conv("x")
        for _ in range(steps):
            start = at if self.rng.random() < 0.8 else str(self.rng.choice(list(self.shapes)))
            at = choices[int(self.rng.integers(len(choices)))](start)
        pooled = self.node("GlobalAveragePool", [at], (*self.shapes[at][:2], 1, 1))
        outputs = [pooled, at] if at != "x" else [pooled]
        graph = helper.make_graph(
            self.nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(v, TensorProto.FLOAT, self.shapes[v]) for v in outputs],
            self.weights,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("blocked", [True, False])
def test_a_random_network(seed: int, blocked: bool, tmp_path: Path) -> None:
    network = _Network(seed)
    model = network.model(10)
    onnx.checker.check_model(model)
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    x = np.random.default_rng(seed).normal(size=network.shapes["x"]).astype(np.float32)
    expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )
    bundle = motet.compile(path, settings=[f"passes.layout.enabled={str(blocked).lower()}"])
    found = motet.load(bundle).run("net", {"x": x})
    for (name, value), want in zip(found.items(), expected, strict=True):
        np.testing.assert_allclose(
            value, want, atol=2e-5 * max(1, np.abs(want).max()), err_msg=name
        )
