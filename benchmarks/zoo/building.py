"""Builds ONNX graphs layer by layer, with random weights that keep values well spread.

A convolution or linear layer draws its weights from N(0, gain / fan_in): with gain 2 (He et
al. 2015, eq. 10) the second moment of activations stays what it was behind a ReLU, with
gain 1 behind a layer that nothing rectifies. A batch normalisation is a node of its own
with scale, shift, mean and variance near those of the identity, so that folding it changes
every weight; the one that ends a residual branch is damped, else sums would double the
variance at each block. Each weight has a generator of its own, of seed and name: a weight
does not depend on what was built before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from motet.runtime.errors import SpecError

OPSET = 17
RESIDUAL = 0.3
"""Scale of the batch normalisation that ends a residual branch."""

Pair = int | tuple[int, int]
Floats = NDArray[np.float32]

_OUTLINE: ContextVar[bool] = ContextVar("outline", default=False)


@contextmanager
def without_weights() -> Iterator[None]:
    """Inside, models get weights that have shapes and no values: to count, not to run."""
    token = _OUTLINE.set(True)
    try:
        yield
    finally:
        _OUTLINE.reset(token)


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its name and its shape (a str is a symbolic dimension)."""

    name: str
    shape: tuple[int | str, ...]

    @property
    def channels(self) -> int:
        """Size of axis 1."""
        return size(self.shape[1])


def size(dimension: int | str) -> int:
    """A dimension that has to be a number."""
    assert isinstance(dimension, int), f"{dimension} is symbolic"
    return dimension


def pair(value: Pair) -> tuple[int, int]:
    """(height, width) of a number that stands for both, or of the two."""
    return value if isinstance(value, tuple) else (value, value)


class GraphBuilder:
    """A graph that grows layer by layer.

    Parameters
    ----------
    name: of the graph.
    seed: of every weight, beside the weight's name.
    opset: version of the default operator set.

    Layers take and give ``Value``; images are NCHW. A layer called ``name`` makes a node of
    that name, its output ``name``, and weights ``name.weight``, ``name.bias``.
    """

    def __init__(self, name: str, seed: int, opset: int = OPSET) -> None:
        self.name = name
        self.seed = seed
        self.opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> Value:
        """An input of the graph."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return Value(name, tuple(shape))

    def constant(self, name: str, array: NDArray[Any]) -> Value:
        """An initializer."""
        self._initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return Value(name, array.shape)

    def normal(self, name: str, shape: Sequence[int], deviation: float, mean: float = 0.0) -> Value:
        """An initializer of N(mean, deviation^2), float32."""
        if _OUTLINE.get():
            return self._outlined(name, shape)
        drawn = self._generator(name).standard_normal(tuple(shape), dtype=np.float32)
        return self.constant(name, drawn * np.float32(deviation) + np.float32(mean))

    def uniform(self, name: str, shape: Sequence[int], low: float, high: float) -> Value:
        """An initializer of U(low, high), float32."""
        if _OUTLINE.get():
            return self._outlined(name, shape)
        drawn = self._generator(name).random(tuple(shape), dtype=np.float32)
        return self.constant(name, drawn * np.float32(high - low) + np.float32(low))

    def node(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        name: str,
        shape: Sequence[int | str],
        domain: str = "",
        **attributes: Any,
    ) -> Value:
        """Any operator with one output of ``shape``; an input of None is left out."""
        return self.nodes(op_type, inputs, name, [shape], domain, **attributes)[0]

    def nodes(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        name: str,
        shapes: Sequence[Sequence[int | str]],
        domain: str = "",
        **attributes: Any,
    ) -> list[Value]:
        """The same with an output for each of ``shapes``: ``name``, ``name.1``, ``name.2``."""
        names = [value.name if value else "" for value in inputs]
        outputs = [f"{name}.{index}" if index else name for index in range(len(shapes))]
        self._nodes.append(
            helper.make_node(op_type, names, outputs, name=name, domain=domain, **attributes)
        )
        return [Value(out, tuple(shape)) for out, shape in zip(outputs, shapes, strict=True)]

    def conv(
        self,
        x: Value,
        name: str,
        channels: int,
        kernel: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        *,
        groups: int = 1,
        dilation: Pair = 1,
        bias: bool = False,
        gain: float = 2.0,
    ) -> Value:
        """A convolution to ``channels`` output channels."""
        window, strides, pads, dilations = map(pair, (kernel, stride, padding, dilation))
        shape = (channels, x.channels // groups, *window)
        deviation = (gain / int(np.prod(shape[1:]))) ** 0.5
        inputs = [x, self.normal(f"{name}.weight", shape, deviation)]
        if bias:
            inputs.append(self.normal(f"{name}.bias", [channels], 0.05))
        effective = [d * (k - 1) + 1 for d, k in zip(dilations, window, strict=True)]
        return self.node(
            "Conv",
            inputs,
            name,
            (x.shape[0], channels, *_windows(x, effective, strides, pads)),
            kernel_shape=window,
            strides=strides,
            pads=[*pads, *pads],
            dilations=dilations,
            group=groups,
        )

    def batch_norm(self, x: Value, name: str, damping: float = 1.0, epsilon: float = 1e-5) -> Value:
        """A batch normalisation; ``damping`` scales what it gives (``RESIDUAL``)."""
        shape = [x.channels]
        inputs = [
            x,
            self.uniform(f"{name}.weight", shape, 0.8 * damping, 1.2 * damping),
            self.normal(f"{name}.bias", shape, 0.1 * damping),
            self.normal(f"{name}.running_mean", shape, 0.1),
            self.uniform(f"{name}.running_var", shape, 0.8, 1.2),
        ]
        return self.node("BatchNormalization", inputs, name, x.shape, epsilon=epsilon)

    def relu(self, x: Value, name: str) -> Value:
        """max(x, 0)."""
        return self.node("Relu", [x], name, x.shape)

    def relu6(self, x: Value, name: str) -> Value:
        """min(max(x, 0), 6), as exporters write it: Clip with two constants."""
        low = self.constant(f"{name}.min", np.array(0, np.float32))
        high = self.constant(f"{name}.max", np.array(6, np.float32))
        return self.node("Clip", [x, low, high], name, x.shape)

    def add(self, x: Value, y: Value, name: str) -> Value:
        """The sum of two tensors of one shape."""
        return self.node("Add", [x, y], name, x.shape)

    def concat(self, values: Sequence[Value], name: str, axis: int = 1) -> Value:
        """Tensors side by side along ``axis``."""
        shape = list(values[0].shape)
        shape[axis] = sum(size(value.shape[axis]) for value in values)
        return self.node("Concat", values, name, shape, axis=axis)

    def max_pool(
        self,
        x: Value,
        name: str,
        kernel: Pair,
        stride: Pair,
        padding: Pair = 0,
        ceil_mode: bool = False,
    ) -> Value:
        """The largest element of each window."""
        return self._pool("MaxPool", x, name, (kernel, stride, padding), ceil_mode)

    def average_pool(
        self,
        x: Value,
        name: str,
        kernel: Pair,
        stride: Pair,
        padding: Pair = 0,
        *,
        include_padding: bool = True,
        ceil_mode: bool = False,
    ) -> Value:
        """The mean of each window; padding counts as zeros, or not at all."""
        window = (kernel, stride, padding)
        count = int(include_padding)
        return self._pool("AveragePool", x, name, window, ceil_mode, count_include_pad=count)

    def global_average_pool(self, x: Value, name: str) -> Value:
        """The mean over the image, N x C x 1 x 1."""
        return self.node("GlobalAveragePool", [x], name, (*x.shape[:2], 1, 1))

    def flatten(self, x: Value, name: str) -> Value:
        """All axes but the first as one."""
        rest = int(np.prod([size(dim) for dim in x.shape[1:]]))
        return self.node("Flatten", [x], name, (x.shape[0], rest), axis=1)

    def linear(
        self, x: Value, name: str, features: int, *, bias: bool = True, gain: float = 1.0
    ) -> Value:
        """A matrix x to x W^T + b (one Gemm)."""
        deviation = (gain / x.channels) ** 0.5
        inputs = [x, self.normal(f"{name}.weight", (features, x.channels), deviation)]
        if bias:
            inputs.append(self.normal(f"{name}.bias", [features], 0.05))
        return self.node("Gemm", inputs, name, (x.shape[0], features), transB=1)

    def reshape(self, x: Value, name: str, shape: Sequence[int]) -> Value:
        """The same values in another shape."""
        return self.node(
            "Reshape", [x, self.constant(f"{name}.shape", np.array(shape))], name, shape
        )

    def transpose(self, x: Value, name: str, axes: Sequence[int]) -> Value:
        """Axis i of the result is axis ``axes[i]`` of ``x``."""
        return self.node("Transpose", [x], name, [x.shape[axis] for axis in axes], perm=axes)

    def model(self, **outputs: Value) -> onnx.ModelProto:
        """The model whose outputs have these names; checked by onnx."""
        infos = []
        for name, value in outputs.items():
            self.node("Identity", [value], name, value.shape)
            infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, infos, initializer=self._initializers
        )
        model = helper.make_model(
            graph,
            producer_name="motet.benchmarks.zoo",
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=8,
        )
        if not _OUTLINE.get():
            onnx.checker.check_model(model, full_check=True)
        return model

    def _outlined(self, name: str, shape: Sequence[int]) -> Value:
        tensor = onnx.TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT)
        self._initializers.append(tensor)
        return Value(name, tuple(shape))

    def _generator(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, crc32(name.encode())])

    def _pool(
        self,
        op_type: str,
        x: Value,
        name: str,
        window: tuple[Pair, Pair, Pair],
        ceil_mode: bool,
        **attributes: Any,
    ) -> Value:
        kernel, strides, pads = map(pair, window)
        return self.node(
            op_type,
            [x],
            name,
            (*x.shape[:2], *_windows(x, kernel, strides, pads, ceil_mode)),
            kernel_shape=kernel,
            strides=strides,
            pads=[*pads, *pads],
            ceil_mode=int(ceil_mode),
            **attributes,
        )


def _windows(
    x: Value,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    ceil_mode: bool = False,
) -> list[int]:
    """Height and width of what a window of ``kernel`` gives."""
    result = []
    for dim, window, stride, pad in zip(x.shape[2:], kernel, strides, pads, strict=True):
        room = size(dim) + 2 * pad - window
        if room < 0:
            raise SpecError(f"{x.name}: the image is smaller than the window: choose a larger one")
        steps = -(-room // stride) if ceil_mode else room // stride
        # A window must not begin behind the image and its leading padding.
        steps -= ceil_mode and steps * stride >= size(dim) + pad
        result.append(steps + 1)
    return result
