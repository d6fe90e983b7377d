"""A quantised model as ONNX: integers and scales stored, quantisers in front of products.

Weights become integers of 4 or 8 bits with ``DequantizeLinear`` behind them: per tensor, per
channel, or in blocks along the reduction; with two levels a first ``DequantizeLinear`` makes
the blocks' scales from unsigned integers and gamma. Computed values pass ``QuantizeLinear``
and ``DequantizeLinear``; where each vector's scale is found as the model runs, a function
of domain ``motet.quantization`` is in front, which the file defines in
plain ONNX (``compiler/vector_functions``). What is not chosen stays as it is, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from motet.compiler.quantizing.biases import Biases
from motet.compiler.quantizing.choices import Choice, Static
from motet.compiler.quantizing.products import Operand
from motet.compiler.vector_functions import (
    DOMAIN,
    call_attributes,
    function_name,
    functions,
)
from motet.runtime.device import Array
from motet.targets.quantized.types import QuantTensor, QuantType

OPSET = 21
"""ONNX's first operator set with blocks and 4 bits."""

_IR_VERSION = 10
"""That which came with ``OPSET``, and has its types."""

_UNSIGNED = ((4, TensorProto.UINT4), (8, TensorProto.UINT8), (16, TensorProto.UINT16))


def rewritten(
    model: onnx.ModelProto, choices: Sequence[Choice], *, paper: bool = False
) -> onnx.ModelProto:
    """A copy of ``model``, whose opset is at least ``OPSET``, with ``choices`` carried out.

    paper: scales as the paper has them, see ``targets/quantized/scales``.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.ir_version = max(result.ir_version, _IR_VERSION)
    rewriter = _Rewriter(result, paper)
    rewriter.apply({choice.product.place: choice for choice in choices})
    return result


@dataclass
class _Rewriter:
    model: onnx.ModelProto
    paper: bool
    names: set[str] = field(default_factory=set)
    made: dict[tuple[object, ...], str] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.names = {each.name for each in (*graph.initializer, *graph.input, *graph.node)}
        self.names |= {name for node in graph.node for name in node.output}

    def apply(self, choices: dict[int, Choice]) -> None:
        graph = self.model.graph
        biases = Biases(graph, self._constant, self._fresh)
        for place, node in enumerate(graph.node):
            choice = choices.get(place)
            ahead, behind = ([], []) if choice is None else self._biased(node, choice, biases)
            self.nodes += [*ahead, node, *behind]
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self.nodes]
        del graph.node[:]
        graph.node.extend(kept)
        _drop_unread(graph)
        called = {node.op_type for node in graph.node if node.domain == DOMAIN}
        if called:
            self.model.functions.extend(functions(sorted(called)))
            self.model.opset_import.append(helper.make_opsetid(DOMAIN, 1))

    def _biased(
        self, node: onnx.NodeProto, choice: Choice, biases: Biases
    ) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
        """``node`` in integers, with its bias shifted; new nodes ahead and behind."""
        self._product(node, choice)
        rank = max(choice.product.data.rank, choice.product.weights.rank)
        if choice.shift is not None and choice.shift.any():
            return biases.shift(node, choice.shift, rank)
        biases.spread(node, rank)
        return [], []

    def _product(self, node: onnx.NodeProto, choice: Choice) -> None:
        node.input[0] = self._computed(choice.product.data, choice.data)
        if choice.weights_static is None:
            node.input[1] = self._stored(choice)
        else:
            node.input[1] = self._computed(choice.product.weights, choice.weights_static)

    def _stored(self, choice: Choice) -> str:
        """Weights as integers; the name of what is dequantised."""
        operand, alone = choice.product.weights, choice.stored is not None
        key = ("stored", operand.tensor, choice.weights, operand.axes)
        if alone or key not in self.made:
            tensor = choice.made(paper=self.paper)
            name = self._dequantized_weights(operand.tensor, tensor)
            if alone:
                return name
            self.made[key] = name
        return self.made[key]

    def _dequantized_weights(self, base: str, tensor: QuantTensor) -> str:
        kind, axes = tensor.type, tensor.axes
        element = TensorProto.INT4 if kind.bits <= 4 else TensorProto.INT8
        integers = self._initializer(f"{base}_quantized", tensor.values, element)
        if kind.granularity != "vector":
            channel = axes.channel if kind.granularity == "channel" else None
            scale = tensor.gamma.reshape(() if channel is None else (-1,))
            zero = self._initializer(f"{base}_zero_point", np.zeros_like(scale), element)
            inputs = [integers, self._reals(base, scale), zero]
            return self._node("DequantizeLinear", inputs, f"{base}_dequantized", axis=channel)
        return self._dequantize(
            base, integers, self._block_scales(base, tensor), axis=axes.reduction,
            block_size=kind.vector,
        )  # fmt: skip

    def _block_scales(self, base: str, tensor: QuantTensor) -> str:
        if tensor.scales is None:
            return self._reals(base, tensor.gamma)
        bits = tensor.type.scale_bits or 0
        element = next(found for most, found in _UNSIGNED if bits <= most)
        integers = self._initializer(f"{base}_vector_scale", tensor.scales, element)
        gamma = self._reals(base, tensor.gamma.reshape(-1), "gamma")
        if tensor.axes.channel is None:
            raise ValueError("two levels of stored weights have a gamma per channel")
        return self._dequantize(f"{base}_scale", integers, gamma, axis=tensor.axes.channel)

    def _computed(self, operand: Operand, static: Static) -> str:
        """A computed value, quantised and worth reals again."""
        axes = operand.axes if static.type.granularity == "vector" else None
        key = ("computed", operand.tensor, *static.key, axes)
        if key not in self.made:
            whole = static.type.granularity != "vector"
            make = self._by_tensor if whole else self._by_vectors
            self.made[key] = make(operand, static)
        return self.made[key]

    def _by_tensor(self, operand: Operand, static: Static) -> str:
        kind, base = static.type, operand.tensor
        assert static.gamma is not None
        channel = operand.axes.channel if kind.granularity == "channel" else None
        gamma = static.gamma.reshape(() if channel is None else (-1,))
        scale = self._reals(base, gamma)
        zeros = np.zeros(gamma.shape, kind.element)
        zeros = zeros if static.zero is None else static.zero.reshape(gamma.shape)
        zero = self._constant(f"{base}_zero_point", zeros)
        inputs = [base, scale, zero]
        integers = self._node("QuantizeLinear", inputs, f"{base}_quantized", axis=channel)
        integers = self._clipped(base, integers, kind)
        inputs[0] = integers
        return self._node("DequantizeLinear", inputs, f"{base}_dequantized", axis=channel)

    def _by_vectors(self, operand: Operand, static: Static) -> str:
        kind, base = static.type, operand.tensor
        inputs = [base]
        if static.gamma is not None:
            inputs.append(self._reals(base, static.gamma.reshape(()), "gamma"))
        more = [self._fresh(f"{base}_quantized"), self._fresh(f"{base}_steps")]
        return self._node(
            function_name(kind, paper=self.paper), inputs, f"{base}_dequantized", more=more,
            domain=DOMAIN, **call_attributes(kind, operand.axes.reduction, operand.size),
        )  # fmt: skip

    def _clipped(self, base: str, integers: str, kind: QuantType) -> str:
        """Integers within the type, where ONNX's own saturation is that of a wider one."""
        if (kind.least, kind.largest) in ((-128, 127), (0, 255)):
            return integers
        least = self._constant(f"{base}_least", np.array(kind.least, kind.element))
        largest = self._constant(f"{base}_largest", np.array(kind.largest, kind.element))
        return self._node("Clip", [integers, least, largest], f"{base}_clipped")

    def _dequantize(
        self, base: str, integers: str, scale: str, axis: int, block_size: int | None = None
    ) -> str:
        return self._node(
            "DequantizeLinear", [integers, scale], f"{base}_dequantized", axis=axis,
            block_size=block_size,
        )  # fmt: skip

    def _reals(self, base: str, values: Array, what: str = "step") -> str:
        return self._constant(f"{base}_{what}", np.asarray(values, np.float32))

    def _constant(self, name: str, values: Array) -> str:
        key = ("constant", values.dtype.str, values.shape, values.tobytes())
        if key not in self.made:
            fresh = self._fresh(name)
            self.model.graph.initializer.append(numpy_helper.from_array(values, fresh))
            self.made[key] = fresh
        return self.made[key]

    def _initializer(self, name: str, values: Array, element: int) -> str:
        fresh = self._fresh(name)
        stored = values.astype(helper.tensor_dtype_to_np_dtype(element))
        self.model.graph.initializer.append(numpy_helper.from_array(stored, fresh))
        return fresh

    def _node(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        *,
        more: Sequence[str] = (),
        domain: str = "",
        **attributes: float | list[int] | None,
    ) -> str:
        fresh = self._fresh(output)
        made = helper.make_node(operator, inputs, [fresh, *more], name=fresh, domain=domain or None)
        given = {key: value for key, value in attributes.items() if value is not None}
        made.attribute.extend(helper.make_attribute(key, value) for key, value in given.items())
        self.nodes.append(made)
        return fresh

    def _fresh(self, name: str) -> str:
        taken, count = name, 1
        while taken in self.names:
            taken, count = f"{name}_{count}", count + 1
        self.names.add(taken)
        return taken


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Removes what only quantised weights read: the floats, and what moved them about."""
    while True:
        read = {name for node in _nodes(graph) for name in node.input}
        read |= {info.name for info in graph.output}
        stale = [node for node in graph.node if read.isdisjoint(node.output) and _is_constant(node)]
        weights = [each for each in graph.initializer if each.name not in read]
        inputs = {info.name for info in graph.input}
        weights = [each for each in weights if each.name not in inputs]
        if not stale and not weights:
            return
        for node in stale:
            graph.node.remove(node)
        for each in weights:
            graph.initializer.remove(each)


def _is_constant(node: onnx.NodeProto) -> bool:
    """Whether a node without readers may go: it held or moved weights."""
    return node.op_type in ("Constant", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze")


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, also those of graphs inside nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)
