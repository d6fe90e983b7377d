"""What onnxruntime's optimizers write that ONNX's own checks cannot read.

onnxruntime keeps a few operators of its own in ONNX's domain, where onnx knows them not at
all or only from a later opset on. They move to ``com.microsoft``, where their converters
are. And it writes blocked convolutions for the machine at hand, which nothing else reads.
"""

from __future__ import annotations

import onnx

from motet.runtime.errors import UnsupportedOperatorError

from .domains import DEFAULT_DOMAIN, Opsets, domain_of
from .functions import schema_of
from .supported import all_nodes

DOMAIN = "com.microsoft"
_MOVED = frozenset({"LayerNormalization", "SimplifiedLayerNormalization"})
_BLOCKED_DOMAIN = "com.microsoft.nchwc"


def adopt_contributed(model: onnx.ModelProto, opsets: Opsets, label: str) -> Opsets:
    """Move onnxruntime's operators out of the default domain, in place; the new opsets.

    Raises
    ------
    UnsupportedOperatorError
        For operators on the blocked layout that onnxruntime writes at its highest level.
    """
    nodes = list(all_nodes(model.graph))
    blocked = next((name for name, node in nodes if node.domain == _BLOCKED_DOMAIN), None)
    if blocked is not None:
        raise UnsupportedOperatorError(
            f"{label}: node '{blocked}' is on the blocked layout ({_BLOCKED_DOMAIN}) that "
            "onnxruntime writes for the machine it runs on: use the original model, or save "
            "the optimized one with graph_optimization_level = ORT_ENABLE_EXTENDED"
        )
    moved = [node for _, node in nodes if _is_moved(node, opsets)]
    for node in moved:
        node.domain = DOMAIN
    if not moved or opsets.has(DOMAIN):
        return opsets
    model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return opsets.updated(model.opset_import)


def _is_moved(node: onnx.NodeProto, opsets: Opsets) -> bool:
    """Whether the node is onnxruntime's, for onnx has none of its name at this opset."""
    if domain_of(node) != DEFAULT_DOMAIN or node.op_type not in _MOVED:
        return False
    return schema_of(DEFAULT_DOMAIN, node.op_type, opsets.default) is None
