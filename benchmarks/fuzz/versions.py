"""A model as onnxruntime knows it: in older versions of the format and of operators."""

from __future__ import annotations

import onnx

from motet.compiler.frontend.functions import schema_of

OPSET, FORMAT = 26, 10
"""onnxruntime 1.31 takes operator sets up to 26; format 10 holds all that they need."""


def for_onnxruntime(content: bytes) -> bytes:
    """The file with versions that onnxruntime takes, where they have all its operators."""
    model = onnx.load_from_string(content)
    changed = model.ir_version > FORMAT
    model.ir_version = min(model.ir_version, FORMAT)
    for entry in model.opset_import:
        newer = entry.domain in ("", "ai.onnx") and entry.version > OPSET
        if newer and all(_is_as_old(node) for node in _nodes(model.graph)):
            entry.version, changed = OPSET, True
    return model.SerializeToString() if changed else content


def _is_as_old(node: onnx.NodeProto) -> bool:
    """Whether ``OPSET`` has the operator: newer versions mostly add element types.

    Where one means another thing, onnxruntime differs, and onnx.reference decides.
    """
    return node.domain not in ("", "ai.onnx") or schema_of("", node.op_type, OPSET) is not None


def _nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """All nodes, also those in branches and loop bodies."""
    found = list(graph.node)
    for node in found:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                found += inner.node
    return found
