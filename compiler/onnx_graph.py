"""The nodes of an ONNX graph by the names that reports and decisions use.

For whoever edits a model's file: who computes a tensor, who reads it, which tensors are
known, and what one value a group of nodes reads and which one it makes.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        for index, node in enumerate(graph.node):
            self._add(node, node_name(node, index))

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

    def operand(self, nodes: Sequence[str]) -> str:
        """The one computed value that ``nodes`` read from elsewhere. Raises ``ModelError``."""
        made = {tensor for name in nodes for tensor in self.node(name).output}
        read = [
            tensor
            for name in nodes
            for tensor in dict.fromkeys(names_read(self.node(name)))
            if tensor not in made and not self.is_known(tensor)
        ]
        found = list(dict.fromkeys(read))
        if len(found) != 1:
            raise ModelError(
                f"{self.label}: nodes {', '.join(nodes)} read {len(found)} values "
                f"({', '.join(found)}), where one is expected"
            )
        return found[0]

    def result(self, nodes: Sequence[str]) -> str:
        """The one value of ``nodes`` that others (or the caller) read. Raises ``ModelError``."""
        own = set(nodes)
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
