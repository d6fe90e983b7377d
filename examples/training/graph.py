"""A small builder of ONNX graphs whose nodes and tensors have readable names.

A node `block2/expand/conv` writes the tensor `block2/expand/conv/output` and
reads initializers such as `block2/expand/conv/weight`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
PRODUCER = "motet examples"
BATCH = "N"

Attribute = int | float | str | Sequence[int]


class GraphBuilder:
    """Collects the nodes and initializers of one model, in the order of computation."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}

    def constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        """Add an initializer, unless one of that name is there; returns its name."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def scalar(self, name: str, value: float) -> str:
        """Add a float32 initializer of rank 0; returns its name."""
        # ascontiguousarray makes rank 0 into rank 1, hence not by `constant`.
        self._initializers[name] = numpy_helper.from_array(np.array(value, np.float32), name)
        return name

    def node(self, kind: str, name: str, inputs: Sequence[str], **attributes: Attribute) -> str:
        """Add a node of one output; returns the output's name."""
        output = f"{name}/output"
        node = helper.make_node(kind, inputs, [output], name=name)
        node.attribute.extend(helper.make_attribute(*item) for item in sorted(attributes.items()))
        self._nodes.append(node)
        return output

    def finish(self, result: str, image: Sequence[int], classes: int) -> ModelProto:
        """The checked model from `image` [N, *image] to `logits` [N, classes]."""
        self._rename_output(result, "logits")
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [BATCH, *image])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [BATCH, classes])],
            initializer=list(self._initializers.values()),
        )
        model = helper.make_model(
            graph,
            producer_name=PRODUCER,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _rename_output(self, old: str, new: str) -> None:
        for node in self._nodes:
            node.output[:] = [new if name == old else name for name in node.output]
