"""A model whose activations can be switched off by inputs, compiled once for all trials.

For each activation a, with operand x and result y, three inputs are added: a gate (bool), a
scale and a shift per channel (float). The graph goes on with

    Where(gate, x scale + shift, y)

so that a run with the gate set is the network with that activation replaced by an affine
map; scale 1 and shift 0 are the identity. A trial is a run: nothing is compiled between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from motet.compiler.onnx_graph import OnnxGraph
from motet.runtime.device import Array
from motet.runtime.errors import ModelError


@dataclass(frozen=True)
class Activation:
    """An activation of a graph: its nodes, and the tensors before and behind it.

    channels: size of axis 1; rank: of the tensors.
    """

    nodes: tuple[str, ...]
    operand: str
    result: str
    channels: int
    rank: int

    @property
    def name(self) -> str:
        """Of the node that ends it."""
        return self.nodes[-1]


def activation(graph: OnnxGraph, nodes: Sequence[str]) -> Activation:
    """The activation that ``nodes`` are. Raises ``ModelError`` where they are none.

    The types of the values must be known: ``graph`` is of a checked model.
    """
    operand, result = graph.operand(nodes), graph.result(nodes)
    info = graph.types.get(operand) or graph.types.get(result)
    if info is None or len(info.shape) < 2 or not isinstance(info.shape[1], int):
        raise ModelError(
            f"{graph.label}: activation {nodes[-1]!r}: the number of its channels is not known"
        )
    if info.dtype != "float32":
        raise ModelError(
            f"{graph.label}: activation {nodes[-1]!r} computes in {info.dtype}: only float32 "
            "networks are calibrated"
        )
    return Activation(tuple(nodes), operand, result, info.shape[1], len(info.shape))


@dataclass(frozen=True)
class Gates:
    """Names of the inputs that ``gated`` added, by activation, and what sets them."""

    activations: tuple[Activation, ...]

    def inputs(self, replaced: Mapping[str, Array]) -> dict[str, Array]:
        """The added inputs for a run where ``replaced`` has activations (by name) replaced.

        replaced: name -> [2, channels], scale and shift.
        """
        given: dict[str, Array] = {}
        for index, one in enumerate(self.activations):
            affine = replaced.get(one.name)
            known = identity(one.channels) if affine is None else affine
            shape = (one.channels, *(1,) * (one.rank - 2))
            given[_name(index, "gate")] = np.array(affine is not None)
            given[_name(index, "scale")] = known[0].reshape(shape).astype(np.float32)
            given[_name(index, "shift")] = known[1].reshape(shape).astype(np.float32)
        return given


def identity(channels: int) -> Array:
    """The affine map that changes nothing: [2, channels]."""
    return np.stack([np.ones(channels), np.zeros(channels)])


def gated(model: onnx.ModelProto, activations: Sequence[Activation]) -> Gates:
    """Add gates to ``model``, in place."""
    by_result = {one.result: index for index, one in enumerate(activations)}
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        for position, tensor in enumerate(node.output):
            index = by_result.get(tensor)
            if index is not None:
                node.output[position] = f"{tensor}.motet.whole"
                nodes += _gate_nodes(index, activations[index])
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    for index, one in enumerate(activations):
        shape = [one.channels, *[1] * (one.rank - 2)]
        model.graph.input.extend(
            [
                helper.make_tensor_value_info(_name(index, "gate"), TensorProto.BOOL, []),
                helper.make_tensor_value_info(_name(index, "scale"), TensorProto.FLOAT, shape),
                helper.make_tensor_value_info(_name(index, "shift"), TensorProto.FLOAT, shape),
            ]
        )
    return Gates(tuple(activations))


def _gate_nodes(index: int, one: Activation) -> list[onnx.NodeProto]:
    scaled, shifted = _name(index, "scaled"), _name(index, "shifted")
    return [
        helper.make_node("Mul", [one.operand, _name(index, "scale")], [scaled], scaled),
        helper.make_node("Add", [scaled, _name(index, "shift")], [shifted], shifted),
        helper.make_node(
            "Where",
            [_name(index, "gate"), shifted, f"{one.result}.motet.whole"],
            [one.result],
            _name(index, "where"),
        ),
    ]


def _name(index: int, what: str) -> str:
    return f"motet.activation{index}.{what}"
