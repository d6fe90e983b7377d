"""Folds scales and shifts per channel into the weights and biases of the product before.

A product is a Conv, ConvTranspose, Gemm or MatMul with constant float32 weights W. Behind it
may come BatchNormalization with constant parameters, and Mul, Div, Add and Sub with constants
that have one value per output channel. As long as nothing else reads what is between, and it
is no output of the model:

1. product(x, W) s becomes product(x, W'), W'[o, ...] = W[o, ...] s[o], and so does the bias;
2. + t becomes part of the bias; a MatMul, which has none, keeps one Add behind it.

For BatchNormalization s = scale / sqrt(variance + epsilon), t = bias - mean s. Exact up to
rounding: in float64, rounded once. A scale that a weight overflows with stays where it is.
Integers then stand for the weights that the network multiplies by in the end, each channel
with a scale of its own, and no float operation is left behind a product.

Source: Jacob et al., CVPR 2018 (arXiv 1712.05877), section 3.2, equation 14.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from motet.compiler.frontend.order import names_read
from motet.compiler.frontend.places import node_name
from motet.compiler.frontend.weightless import without_weights
from motet.compiler.quantizing.products import constants_of
from motet.runtime.device import Array

Folds = dict[str, str]
"""Names of nodes that are gone, and of the products that they went into."""

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_Reals = NDArray[np.float64]


@dataclass(frozen=True)
class _Affine:
    """y = x scale + shift, each [channels] or [1]."""

    scale: _Reals
    shift: _Reals


@dataclass
class _Layer:
    """A product, the Add of a MatMul's bias where there is one, and what has been folded."""

    product: onnx.NodeProto
    name: str
    bias: onnx.NodeProto | None = None
    scale: _Reals = field(default_factory=lambda: np.ones(1))
    shift: _Reals = field(default_factory=lambda: np.zeros(1))
    gone: list[onnx.NodeProto] = field(default_factory=list)


def folded(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Folds]:
    """``model`` with all that can be folded, and what was; the model itself where nothing is.

    Where something is, nodes without a name get that under which they are known.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for place, node in enumerate(copy.graph.node):
        node.name = node_name(node, place)
    folds = _Folder(copy).fold()
    return (copy, folds) if folds else (model, {})


class _Folder:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.constants = constants_of(model.graph)
        self.reads = Counter(name for node in self.graph.node for name in names_read(node))
        self.reads.update(info.name for info in self.graph.output)
        self.readers = {name: node for node in self.graph.node for name in names_read(node)}
        self.outputs = {info.name for info in self.graph.output}
        self.ranks = _ranks(model)
        self.taken = {each.name for each in self.graph.initializer} | set(self.reads)
        self.taken |= {name for node in self.graph.node for name in node.output}

    def fold(self) -> Folds:
        """Folds everywhere, in place."""
        found: Folds = {}
        for layer in list(self._layers()):
            last = self._follow(layer)
            kept = layer.bias is None or layer.bias.op_type in ("Add", "Sub")
            if layer.gone or not kept:
                found |= {node.name: layer.name for node in layer.gone}
                if layer.bias is not None and not kept:
                    found[layer.bias.name] = layer.name
                self._carry_out(layer, last)
        return found

    def _layers(self) -> Iterator[_Layer]:
        for node in self.graph.node:
            if node.op_type in _PRODUCTS and not node.domain and self._has_weights(node):
                yield _Layer(node, node.name)

    def _has_weights(self, node: onnx.NodeProto) -> bool:
        if node.input[0] in self.constants or not _is_whole(node):
            return False
        given = [self.constants.get(name) for name in node.input[1:] if name]
        return all(each is not None and each.dtype == np.float32 for each in given) and (
            given[0] is not None and given[0].ndim >= 2
        )

    def _follow(self, layer: _Layer) -> str:
        """Composes what comes behind a product; the name of the value that comes out."""
        value = str(layer.product.output[0])
        while True:
            node = self.readers.get(value)
            if node is None or self.reads[value] != 1 or value in self.outputs or node.domain:
                return value
            affine = self._affine(node, value, layer)
            if affine is None or not _is_finite(self._weights(layer), layer, affine.scale):
                return value
            if layer.product.op_type == "MatMul" and layer.bias is None and affine.shift.any():
                layer.bias = node  # the Add that stays
            else:
                layer.gone.append(node)
            layer.scale = layer.scale * affine.scale
            layer.shift = layer.shift * affine.scale + affine.shift
            value = str(node.output[0])

    def _affine(self, node: onnx.NodeProto, value: str, layer: _Layer) -> _Affine | None:
        if node.op_type == "BatchNormalization":
            return self._normalisation(node, value, layer)
        if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(set(node.input)) != 2:
            return None
        other = node.input[1] if node.input[0] == value else node.input[0]
        given = self.constants.get(other)
        if given is None or given.dtype != np.float32:
            return None
        constant = self._per_channel(given, value, layer)
        if constant is None or (node.op_type == "Div" and node.input[1] == value):
            return None
        return _arithmetic(node.op_type, constant, is_left=node.input[0] == value)

    def _normalisation(self, node: onnx.NodeProto, value: str, layer: _Layer) -> _Affine | None:
        given = [self.constants.get(name) for name in node.input[1:5]]
        channels = self._channels(layer)
        training = any(a.name == "training_mode" and a.i for a in node.attribute)
        on_axis_1 = layer.product.op_type != "MatMul" or self.ranks.get(value) == 2
        if training or not on_axis_1 or len([name for name in node.output if name]) != 1:
            return None
        if any(each is None or each.shape != (channels,) for each in given):
            return None
        scale, bias, mean, variance = (np.asarray(each, np.float64) for each in given)
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + epsilon)
        return _Affine(factor, bias - mean * factor)

    def _per_channel(self, constant: Array, value: str, layer: _Layer) -> _Reals | None:
        """``constant`` as [channels] or [1]; None where it has more than one value for some."""
        behind = 0 if layer.product.op_type in ("Gemm", "MatMul") else self._weights(layer).ndim - 2
        rank = self.ranks.get(value, self._weights(layer).ndim)
        if constant.size == 1 and constant.ndim <= rank:
            return np.asarray(constant, np.float64).reshape(1)
        axis, channels = constant.ndim - 1 - behind, self._channels(layer)
        if constant.ndim > rank or axis < 0 or constant.size != channels:
            return None
        return (
            np.asarray(constant, np.float64).ravel() if constant.shape[axis] == channels else None
        )

    def _weights(self, layer: _Layer) -> Array:
        return self.constants[layer.product.input[1]]

    def _channels(self, layer: _Layer) -> int:
        weights = self._weights(layer)
        size = int(weights.shape[channel_axis(layer.product, weights.ndim)])
        return size * _groups(layer.product) if layer.product.op_type == "ConvTranspose" else size

    def _carry_out(self, layer: _Layer, last: str) -> None:
        """New weights and biases; the product, or the Add behind it, makes ``last``."""
        product, channels = layer.product, self._channels(layer)
        scale, shift = (np.broadcast_to(each, channels) for each in (layer.scale, layer.shift))
        weights = scaled(self._weights(layer), scale, product)
        if product.op_type == "MatMul":
            if layer.bias is not None:
                self._keep_bias(layer, shift)
        else:
            self._add_bias(product, scale, shift)
        product.input[1] = self._stored(product.input[1], weights)
        (product if layer.bias is None else layer.bias).output[0] = last
        for node in layer.gone:
            self.graph.node.remove(node)

    def _keep_bias(self, layer: _Layer, shift: _Reals) -> None:
        add = layer.bias
        assert add is not None
        stored = self._stored(f"{layer.name}_bias", shift.astype(np.float32))
        name, value = add.name, layer.product.output[0]
        add.CopyFrom(helper.make_node("Add", [value, stored], list(add.output), name=name))

    def _add_bias(self, product: onnx.NodeProto, scale: _Reals, shift: _Reals) -> None:
        has = len(product.input) > 2 and product.input[2]
        bias = np.asarray(self.constants[product.input[2]] if has else 0, np.float64)
        made = bias * scale + shift
        if not has and not made.any():
            return
        stored = self._stored(f"{product.name}_bias", made.astype(np.float32))
        inputs = [*product.input[:2], stored]
        del product.input[:]
        product.input.extend(inputs)

    def _stored(self, name: str, values: Array) -> str:
        fresh, count = name, 1
        while fresh in self.taken:
            fresh, count = f"{name}_{count}", count + 1
        self.taken.add(fresh)
        self.graph.initializer.append(numpy_helper.from_array(values, fresh))
        self.constants[fresh] = values
        return fresh


def scaled(weights: Array, scale: NDArray[np.floating], product: onnx.NodeProto) -> Array:
    """Weights of ``product``, float32, times ``scale`` per output channel, rounded once."""
    exact = weights.astype(np.float64)
    axis = channel_axis(product, weights.ndim)
    if product.op_type == "ConvTranspose":
        groups = _groups(product)
        rows = exact.reshape(groups, -1, *weights.shape[1:])
        factors = scale.reshape(groups, 1, -1, *(1,) * (weights.ndim - 2))
        return np.asarray((rows * factors).reshape(weights.shape), np.float32)
    shape = [1] * weights.ndim
    shape[axis] = -1
    with np.errstate(over="ignore"):
        return np.asarray(exact * scale.reshape(shape), np.float32)


def _arithmetic(operator: str, constant: _Reals, *, is_left: bool) -> _Affine | None:
    one, zero = np.ones(1), np.zeros(1)
    if operator == "Mul":
        return _Affine(constant, zero)
    if operator == "Div":
        return _Affine(1 / constant, zero) if constant.all() else None
    if operator == "Add":
        return _Affine(one, constant)
    return _Affine(one, -constant) if is_left else _Affine(-one, constant)


def _is_finite(weights: Array, layer: _Layer, scale: _Reals) -> bool:
    """Whether weights stay float32 numbers with ``scale`` on top of what was folded."""
    factor = np.abs(layer.scale * scale).max(initial=0)
    top = np.abs(weights).max(initial=0)
    return bool(np.isfinite(factor) and top * factor <= np.finfo(np.float32).max)


def _is_whole(node: onnx.NodeProto) -> bool:
    """Whether the product is scaled by its weights alone: a Gemm may have factors."""
    return all(a.f == 1 for a in node.attribute if a.name in ("alpha", "beta"))


def channel_axis(node: onnx.NodeProto, rank: int) -> int:
    """Which axis of a product's weights counts outputs (of a group, for ConvTranspose)."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return 1 if node.op_type == "ConvTranspose" else rank - 1


def _groups(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "group"), 1)


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """Ranks of inner values, as far as onnx infers them."""
    inferred = onnx.shape_inference.infer_shapes(without_weights(model)).graph
    infos = (*inferred.value_info, *inferred.input, *inferred.output)
    types = {info.name: info.type.tensor_type for info in infos}
    return {name: len(kind.shape.dim) for name, kind in types.items() if kind.HasField("shape")}
