"""The nodes of an ONNX graph by the names that reports and decisions use.

For whoever edits a model's file: who computes a tensor, who reads it, which tensors are
known, and what one value a group of nodes reads and which one it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from motet.compiler.frontend.dimensions import declared_shape, tensor_type
from motet.compiler.frontend.order import names_read
from motet.compiler.frontend.places import node_name
from motet.runtime.device import Array
from motet.runtime.errors import ModelError
from motet.runtime.program import TensorInfo

NEUTRAL = frozenset(
    {
        "Add", "Cast", "CastLike", "Clip", "Concat", "Div", "Dropout", "Expand", "Flatten",
        "Gather", "Identity", "Max", "Mean", "Min", "Mul", "Pad", "Pow", "Reshape", "Resize",
        "Shape", "Size", "Slice", "Split", "Squeeze", "Sub", "Sum", "Tile", "Transpose",
        "Unsqueeze", "Upsample",
    }
)  # fmt: skip
"""Operators that, for some attributes or constants, compute what they read: the front end drops
them then, so that no decision names them. Shape arithmetic beside a Reshape is among them."""

FOREIGN = "decisions belong to the file that they were made for"


class OnnxGraph:
    """An index of the top-level graph of ``model``; made anew after the model is edited.

    label: how messages call the model; types: of the values for which the file tells them.
    """

    def __init__(self, model: onnx.ModelProto, label: str) -> None:
        self.model = model
        self.label = label
        graph = model.graph
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = [i.name for i in graph.input if i.name not in self.initializers]
        self.outputs = [info.name for info in graph.output]
        infos = (*graph.input, *graph.output, *graph.value_info)
        self.types = {i.name: t for i in infos if (t := _type(i)) is not None}
        self.nodes: dict[str, onnx.NodeProto] = {}
        self.producer: dict[str, str] = {}
        self.readers: dict[str, list[str]] = {}
        taken = {node.name for node in graph.node}
        for index, node in enumerate(graph.node):
            name = node_name(node, index)
            # The place of an unnamed node may be the name of another, since nodes were moved.
            self._add(node, f"{name}#{index}" if not node.name and name in taken else name)

    @property
    def opset(self) -> int:
        """Version of ONNX's own operators."""
        found = [o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")]
        return max(found, default=1)

    def _add(self, node: onnx.NodeProto, name: str) -> None:
        self.nodes.setdefault(name, node)
        for tensor in filter(None, node.output):
            self.producer[tensor] = name
        for tensor in dict.fromkeys(names_read(node)):
            self.readers.setdefault(tensor, []).append(name)

    def node(self, name: str) -> onnx.NodeProto:
        """The node called ``name``. Raises ``ModelError`` where there is none."""
        if name not in self.nodes:
            raise ModelError(f"{self.label}: there is no node {name!r} ({FOREIGN})")
        return self.nodes[name]

    def constant(self, tensor: str) -> Array | None:
        """The value of an initialiser or ``Constant``; None for what is computed."""
        if tensor in self.initializers:
            return np.asarray(numpy_helper.to_array(self.initializers[tensor]))
        node = self.nodes.get(self.producer.get(tensor, ""))
        if node is None or node.op_type != "Constant":
            return None
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        return None if value is None else np.asarray(numpy_helper.to_array(value))

    def is_known(self, tensor: str) -> bool:
        """Whether ``tensor`` follows from the file alone: constants, and what is made of them."""
        if tensor in self.initializers:
            return True
        name = self.producer.get(tensor)
        if name is None:
            return False
        return all(self.is_known(read) for read in names_read(self.nodes[name]))

    def region(self, nodes: Sequence[str]) -> list[str]:
        """``nodes``, and those of ``NEUTRAL`` between them that a decision does not name.

        Also those through which some of ``nodes`` read what others read as it is.
        """
        for name in nodes:
            self.node(name)
        behind = self._reached(nodes, self._next)
        ahead = self._reached(nodes, self._previous)
        inside = list(dict.fromkeys([*nodes, *(name for name in behind if name in ahead)]))
        return [*inside, *self._leading(self._read(inside))]

    def operand(self, nodes: Sequence[str]) -> str:
        """The one computed value that ``nodes`` read from elsewhere. Raises ``ModelError``."""
        found = self._read(self.region(nodes))
        if len(found) != 1:
            raise ModelError(
                f"{self.label}: nodes {', '.join(nodes)} read {len(found)} values "
                f"({', '.join(found)}), where one is expected"
            )
        return found[0]

    def result(self, nodes: Sequence[str]) -> str:
        """The one value of ``nodes`` that others (or the caller) read. Raises ``ModelError``."""
        own = set(self.region(nodes))
        read = [
            tensor
            for name in nodes
            for tensor in filter(None, self.node(name).output)
            if tensor in self.outputs or any(r not in own for r in self.readers.get(tensor, ()))
        ]
        if len(read) != 1:
            raise ModelError(
                f"{self.label}: {len(read)} values of nodes {', '.join(nodes)} are read by others "
                f"({', '.join(read) or 'none'}), where one is expected"
            )
        return str(read[0])

    def computed(self, name: str) -> list[str]:
        """What a node reads that does not follow from the file alone."""
        read = dict.fromkeys(names_read(self.nodes[name]))
        return [tensor for tensor in read if not self.is_known(tensor)]

    def _read(self, nodes: Sequence[str]) -> list[str]:
        made = {tensor for name in nodes for tensor in self.nodes[name].output}
        read = [tensor for name in nodes for tensor in self.computed(name) if tensor not in made]
        return list(dict.fromkeys(read))

    def _next(self, name: str) -> list[str]:
        return [r for t in self.nodes[name].output if t for r in self.readers.get(t, ())]

    def _previous(self, name: str) -> list[str]:
        return [self.producer[t] for t in self.computed(name) if t in self.producer]

    def _reached(self, nodes: Sequence[str], step: Callable[[str], list[str]]) -> dict[str, None]:
        """Neutral nodes that ``nodes`` reach through neutral ones, in the order found."""
        left, found = list(nodes), dict[str, None]()
        while left:
            for name in step(left.pop()):
                if name not in found and self.nodes[name].op_type in NEUTRAL:
                    found[name] = None
                    left.append(name)
        return found

    def _leading(self, tensors: Sequence[str]) -> list[str]:
        """Neutral nodes between the nearest value that all ``tensors`` come from and these."""
        if len(tensors) < 2:
            return []
        ways = [self._way(tensor) for tensor in tensors]
        common = next((t for t in ways[0] if all(t in way for way in ways)), None)
        if common is None:
            return []
        between = [tensor for way in ways for tensor in way[: way.index(common)]]
        return list(dict.fromkeys(self.producer[tensor] for tensor in between))

    def _way(self, tensor: str) -> list[str]:
        """``tensor``, and what it comes from through neutral nodes of one operand each."""
        way = [tensor]
        while (name := self.producer.get(way[-1])) is not None:
            read = self.computed(name)
            if len(read) != 1 or self.nodes[name].op_type not in NEUTRAL:
                break
            way.append(read[0])
        return way


def _type(info: onnx.ValueInfoProto) -> TensorInfo | None:
    """Dtype and shape of a tensor where both are told."""
    kind, shape = tensor_type(info), declared_shape(info)
    if kind is None or shape is None or not kind.elem_type:
        return None
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return TensorInfo(info.name, dtype, shape)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
