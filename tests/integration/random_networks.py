"""Random graphs of what convolutional networks are made of, on (N, C, H, W) values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int, ...]


class RandomNetwork:
    """A random ONNX graph: inputs ``x`` and sometimes ``y``, its last values as outputs.

    seed: of the graph and its weights. symbolic: the first extent is ``batch``.
    """

    def __init__(self, seed: int, symbolic: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.symbolic = symbolic
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shapes: dict[str, Shape] = {}
        self.inputs: dict[str, Shape] = {}

    def pick(self, *choices: int) -> int:
        return int(self.rng.choice(choices))

    def array(self, values: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def weight(self, *shape: int) -> str:
        values = self.rng.normal(0, 1 / np.sqrt(np.prod(shape[1:]) or 1), shape)
        return self.array(values.astype(np.float32))

    def ints(self, *values: int) -> str:
        return self.array(np.array(values, np.int64))

    def bind(self, op: str, inputs: Sequence[str], **attrs: object) -> str:
        """A node whose value only its reader uses."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attrs))
        return name

    def node(self, op: str, inputs: Sequence[str], shape: Shape, **attrs: object) -> str:
        """A node whose value later ones may use too."""
        name = self.bind(op, inputs, **attrs)
        self.shapes[name] = shape
        return name

    def conv(self, x: str) -> str:
        n, c, *sizes = self.shapes[x]
        stride = self.pick(1, 1, 2)
        kernel = min(self.pick(1, 3, 3, 5), *sizes)
        dilation = self.pick(1, 1, 1, 2) if kernel == 3 and min(sizes) >= 5 else 1
        kind = self.pick(0, 0, 1, 2)
        groups = c if kind == 1 else 2 if kind == 2 and c % 16 == 0 else 1
        outs = c if groups == c else self.pick(8, 16, 24, 32, 5) if groups == 1 else 32
        pads = [dilation * (kernel // 2)] * 4
        if self.pick(0, 0, 1):
            pads = [self.pick(0, 1, 2) for _ in pads]
        reach = (kernel - 1) * dilation + 1
        size = [
            (d + pads[k] + pads[k + 2] - reach) // stride + 1 for k, d in enumerate(sizes)
        ]  # fmt: skip
        return self.node(
            "Conv", [x, self.weight(outs, c // groups, kernel, kernel), self.weight(outs)],
            (n, outs, *size), kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads,
            group=groups, dilations=[dilation] * 2,
        )  # fmt: skip

    def transposed(self, x: str) -> str:
        n, c, h, w = self.shapes[x]
        if h > 12:
            return x
        outs = self.pick(8, 16, 6)
        return self.node(
            "ConvTranspose", [x, self.weight(c, outs, 2, 2)], (n, outs, 2 * h, 2 * w),
            kernel_shape=[2, 2], strides=[2, 2],
        )  # fmt: skip

    def activation(self, x: str) -> str:
        shape = self.shapes[x]
        kind = self.pick(0, 1, 2, 3, 4, 5, 6)
        if kind == 3:
            return self.node("PRelu", [x, self.weight(shape[1], 1, 1)], shape)
        if kind == 4:
            return self.node("LeakyRelu", [x], shape, alpha=0.1)
        if kind == 5:
            bounds = [self.array(np.float32(v)) for v in (-0.5, 1.5)]
            return self.node("Clip", [x, *bounds], shape)
        op = {0: "Relu", 1: "HardSwish", 2: "Sigmoid", 6: "Abs"}[kind]
        return self.node(op, [x], shape)

    def scaled(self, x: str) -> str:
        channels = self.shapes[x][1]
        y = self.node("Mul", [x, self.weight(1, channels, 1, 1)], self.shapes[x])
        y = self.node("Add", [y, self.weight(channels, 1, 1)], self.shapes[x])
        return self.node("Relu", [y], self.shapes[x])

    def broadcast(self, x: str) -> str:
        """With a tensor of fewer axes, or of one channel."""
        _, c, h, w = self.shapes[x]
        shape = [(w,), (h, w), (1, h, w), (c, 1, w), (1, 1, h, 1), (c, h, w)][
            self.pick(0, 1, 2, 3, 4, 5)
        ]
        return self.node(("Add", "Mul")[self.pick(0, 1)], [x, self.weight(*shape)], self.shapes[x])

    def chosen(self, x: str) -> str:
        """``Where`` of a comparison."""
        y = self.partner(x, True)
        larger = self.bind("Greater", [x, y])
        return self.node("Where", [larger, x, y], self.shapes[x])

    def partner(self, x: str, same_channels: bool) -> str:
        fits = [
            v for v, s in self.shapes.items()
            if s[2:] == self.shapes[x][2:] and (not same_channels or s[1] == self.shapes[x][1])
        ]  # fmt: skip
        return str(self.rng.choice(fits))

    def add(self, x: str) -> str:
        return self.node("Add", [x, self.partner(x, True)], self.shapes[x])

    def sum(self, x: str) -> str:
        parts = [x, self.partner(x, True), self.partner(x, True)]
        return self.node(("Sum", "Max")[self.pick(0, 1)], parts, self.shapes[x])

    def concat(self, x: str) -> str:
        other = self.partner(x, False)
        n, c, h, w = self.shapes[x]
        return self.node("Concat", [x, other], (n, c + self.shapes[other][1], h, w), axis=1)

    def pool(self, x: str) -> str:
        n, c, h, w = self.shapes[x]
        if min(h, w) < 3:
            return x
        op = ("MaxPool", "AveragePool")[self.pick(0, 1)]
        stride, ceil = self.pick(1, 2, 2), self.pick(0, 0, 1)
        size = [-(-(d - 1) // stride) + 1 if ceil else (d - 1) // stride + 1 for d in (h, w)]
        attrs = {"count_include_pad": self.pick(0, 1)} if op == "AveragePool" and not ceil else {}
        return self.node(
            op, [x], (n, c, *size), kernel_shape=[3, 3], strides=[stride] * 2, pads=[1] * 4,
            ceil_mode=ceil, **attrs,
        )  # fmt: skip

    def gate(self, x: str) -> str:
        c = self.shapes[x][1]
        op = ("GlobalAveragePool", "GlobalMaxPool")[self.pick(0, 1)]
        mean = self.bind(op, [x])
        gate = self.bind("Conv", [mean, self.weight(c, c, 1, 1)], kernel_shape=[1, 1])
        return self.node("Mul", [x, self.bind("Sigmoid", [gate])], self.shapes[x])

    def flat_gate(self, x: str) -> str:
        """A gate through a matrix product: the mean drops its axes."""
        c = self.shapes[x][1]
        mean = self.bind("ReduceMean", [x], axes=[2, 3], keepdims=0)
        product = self.bind("MatMul", [mean, self.weight(c, c)])
        shape = self.ints(0, c, 1, 1)
        return self.node("Mul", [x, self.bind("Reshape", [product, shape])], self.shapes[x])

    def cut(self, x: str) -> str:
        n, c, h, w = self.shapes[x]
        begin, end = [(0, max(1, c // 2)), (min(8, c - 1), c), (c // 3, c)][self.pick(0, 1, 2)]
        bounds = [self.ints(begin), self.ints(end), self.ints(1)]
        return self.node("Slice", [x, *bounds], (n, end - begin, h, w))

    def doubled(self, x: str) -> str:
        n, c, h, w = self.shapes[x]
        if h > 12:
            return x
        scales = self.array(np.array([1, 1, 2, 2], np.float32))
        how = (
            {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
             "nearest_mode": "floor"},
            {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        )[self.pick(0, 1, 2)]  # fmt: skip
        return self.node("Resize", [x, "", scales], (n, c, 2 * h, 2 * w), **how)

    def padded(self, x: str) -> str:
        n, c, h, w = self.shapes[x]
        mode = ("constant", "reflect", "edge")[self.pick(0, 1, 2)] if min(h, w) > 2 else "constant"
        pads = self.ints(0, 0, 1, 0, 0, 0, 1, 2)
        return self.node("Pad", [x, pads], (n, c, h + 2, w + 2), mode=mode)

    def channels_last(self, x: str) -> str:
        """Through (N, H, W, C) and back."""
        there = self.bind("Transpose", [x], perm=[0, 2, 3, 1])
        there = self.bind("Add", [there, self.weight(self.shapes[x][1])])
        return self.node("Transpose", [there], self.shapes[x], perm=[0, 3, 1, 2])

    def softmax(self, x: str) -> str:
        return self.node("Softmax", [x], self.shapes[x], axis=1)

    def norm(self, x: str) -> str:
        shape = self.shapes[x]
        if self.pick(0, 1) and shape[2] * shape[3] > 4:
            parts = [self.weight(shape[1]), self.weight(shape[1])]
            return self.node("InstanceNormalization", [x, *parts], shape, epsilon=0.1)
        return self.node("LRN", [x], shape, size=5, alpha=0.1)

    def steps(self) -> list[Callable[[str], str]]:
        return [
            *[self.conv] * 6, self.transposed, *[self.activation] * 2, self.scaled, self.broadcast,
            self.chosen, self.add, self.sum, self.concat, self.pool, self.pool, self.gate,
            self.flat_gate, self.cut, self.doubled, self.padded, self.channels_last, self.softmax,
            self.norm,
        ]  # fmt: skip

    def start(self) -> None:
        """One input, or two of the same shape."""
        sizes = [(7, 8), (12, 13), (7, 13), (12, 8), (1, 13), (1, 1)][self.pick(0, 1, 2, 3, 4, 5)]
        shape = (self.pick(1, 1, 2), self.pick(3, 8, 16), *sizes)
        for name in ("x", "y")[: self.pick(1, 1, 2)]:
            self.inputs[name] = self.shapes[name] = shape

    def model(self, length: int) -> onnx.ModelProto:
        """The graph: ``length`` random steps after a convolution of the input."""
        self.start()
        at = self.conv("x")
        steps = self.steps()
        for _ in range(length):
            start = at if self.rng.random() < 0.8 else str(self.rng.choice(list(self.shapes)))
            at = steps[int(self.rng.integers(len(steps)))](start)
        pooled = self.node("GlobalAveragePool", [at], (*self.shapes[at][:2], 1, 1))
        outputs = [pooled, at] if at not in self.inputs else [pooled]
        graph = helper.make_graph(
            self.nodes, "net", [self.declared(v, s) for v, s in self.inputs.items()],
            [self.declared(v, self.shapes[v]) for v in outputs], self.weights,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def declared(self, name: str, shape: Shape) -> onnx.ValueInfoProto:
        extents = ["batch", *shape[1:]] if self.symbolic else shape
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, extents)

    def feeds(self, seed: int, batch: int | None = None) -> dict[str, np.ndarray]:
        """Random inputs, of ``batch`` where the graph leaves it open."""
        rng = np.random.default_rng(seed)
        return {
            name: rng.normal(size=(batch or shape[0], *shape[1:])).astype(np.float32)
            for name, shape in self.inputs.items()
        }
