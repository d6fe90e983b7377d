"""Small networks with a depthwise convolution, and what decisions say that they compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from relax_modules import named
from tvm import relax

from motet.passes.decisions import Decided, Replacement
from motet.passes.merging.convolution import Conv, conv

RNG = np.random.default_rng(5)


@dataclass(frozen=True)
class Shape:
    """A block: expand 1x1, depthwise K x K, project 1x1."""

    inputs: int = 3
    channels: int = 6
    outputs: int = 3
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (1, 1, 1, 1)
    size: tuple[int, int] = (9, 8)
    batch: int = 2
    activation: str = "clip"
    bias: bool = True
    residual: bool = False
    expands: bool = True


def random(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


class Network:
    """The module, and the layers' weights: expand, depthwise, project."""

    def __init__(self, shape: Shape) -> None:
        self.shape = s = shape
        width = s.channels if s.expands else s.inputs
        self.width = width
        self.expand = conv(random(width, s.inputs, 1, 1), random(width))
        bias = random(width) if s.bias else None
        self.depthwise = conv(
            random(width, 1, *s.kernel), bias, s.stride, s.padding, groups=width
        )  # fmt: skip
        self.project = conv(random(s.outputs, width, 1, 1), random(s.outputs) if s.bias else None)
        self.module = named(self.build())

    def build(self) -> tvm.IRModule:
        s, builder = self.shape, relax.BlockBuilder()
        x = relax.Var("x", relax.TensorType([s.batch, s.inputs, *s.size], "float32"))
        with builder.function("main", [x]):
            with builder.dataflow():
                y = x
                if s.expands:
                    y = self.layer(builder, y, self.expand, "expand")
                    y = self.activated(builder, y, "clip", "expand_act")
                y = self.layer(builder, y, self.depthwise, "dw")
                y = self.activated(builder, y, s.activation, "dw_act")
                y = self.layer(builder, y, self.project, "project")
                if s.residual:
                    y = builder.emit(relax.op.add(y, x), "sum")
                output = builder.emit_output(y)
            builder.emit_func_output(output)
        return builder.finalize()

    @staticmethod
    def layer(builder: Any, x: Any, one: Conv, name: str) -> Any:
        weight = relax.const(one.weight.astype(np.float32))
        y = relax.op.nn.conv2d(
            x, weight, strides=one.stride, padding=one.padding, groups=one.groups
        )  # fmt: skip
        y = builder.emit(y, name)
        if not one.has_bias:
            return y
        bias = relax.const(one.bias.astype(np.float32).reshape(1, -1, 1, 1))
        return builder.emit(relax.op.add(y, bias), f"{name}_bias")

    @staticmethod
    def activated(builder: Any, y: Any, what: str, name: str) -> Any:
        if what == "clip":
            return builder.emit(relax.op.clip(y, 0.0, 6.0), name)
        if what == "silu":  # written out, as exporters do
            return builder.emit(relax.op.multiply(y, builder.emit(relax.op.sigmoid(y))), name)
        return y

    def expected(self, decided: Decided, x: Any) -> Any:
        """By the arrays of the decision alone: lines put into K x K kernels of zeros."""
        (one,) = decided.decisions.replacements
        layers = {new.nodes[0]: new for new in one.layers}
        y, arrays = x.astype(np.float64), decided.weights
        if self.shape.expands:
            y = act("clip", fresh(self.expand, layers.get("expand"), arrays)(y))
        y = act(self.shape.activation, lines_of(one, self.depthwise, arrays)(y))
        y = fresh(self.project, layers.get("project"), arrays)(y)
        return y + x if self.shape.residual else y


def act(what: str, y: Any) -> Any:
    return {"clip": np.clip(y, 0, 6), "silu": y / (1 + np.exp(-y)), "": y}[what]


def fresh(old: Conv, new: Any, arrays: Any) -> Conv:
    if new is None:
        return old
    return conv(arrays[new.weight], arrays[new.bias], old.stride, old.padding)


def lines_of(one: Replacement, old: Conv, arrays: Any) -> Any:
    """Rows and columns as one convolution of K x K kernels on the channels that they read."""
    height, width = old.kernel
    row, column = arrays[one.row], arrays[one.column]
    kernels = np.zeros((len(row) + len(column), 1, height, width))
    kernels[: len(row), :, height // 2] = row[:, :, 0]
    kernels[len(row) :, :, :, width // 2] = column[:, :, :, 0]
    bias = np.concatenate([arrays[one.row_bias], arrays[one.column_bias]])
    whole = conv(kernels, bias, old.stride, old.padding, groups=len(kernels))
    if one.variant == "half":
        return whole
    return lambda x: whole(np.concatenate([x, x], axis=1))
