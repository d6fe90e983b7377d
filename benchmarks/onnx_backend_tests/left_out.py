"""What Motet leaves out on purpose: text, training and image files; numbers only, inference only.

A case is skipped only where it is of one of these kinds *and* Motet refuses it with a
``motet.errors`` exception; one that passes counts as passed, anything else as failed.
"""

from __future__ import annotations

import re

import onnx

from .cases import Case

DOMAINS = {
    "ai.onnx.ml": "classical machine learning (ai.onnx.ml)",
    "ai.onnx.preview.training": "training",
}
OPERATORS = {
    "ImageDecoder": "decodes image files",
    "RegexFullMatch": "text",
    "StringConcat": "text",
    "StringNormalizer": "text",
    "StringSplit": "text",
    "TfIdfVectorizer": "text",
}
NAMES = {
    r"^test_batchnorm_.*training_mode": "training mode",
    r"^test_training_dropout": "training mode",
}
STRINGS = "text"


def why_left_out(case: Case, model: onnx.ModelProto) -> str | None:
    """The reason for which a refusal of this case is by design, or None."""
    for node in model.graph.node:
        if node.domain in DOMAINS:
            return DOMAINS[node.domain]
        if not node.domain and node.op_type in OPERATORS:
            return OPERATORS[node.op_type]
    for pattern, reason in NAMES.items():
        if re.search(pattern, case.name):
            return reason
    return STRINGS if _has_strings(model) else None


def _has_strings(model: onnx.ModelProto) -> bool:
    graph = model.graph
    types = [info.type for info in (*graph.input, *graph.output, *graph.value_info)]
    stored = any(t.data_type == onnx.TensorProto.STRING for t in graph.initializer)
    return stored or any(_element(kind) == onnx.TensorProto.STRING for kind in types)


def _element(kind: onnx.TypeProto) -> int:
    """The element type of a tensor, of a sequence's items, or of an optional's value."""
    if kind.HasField("sequence_type"):
        return _element(kind.sequence_type.elem_type)
    if kind.HasField("optional_type"):
        return _element(kind.optional_type.elem_type)
    return int(kind.tensor_type.elem_type)
