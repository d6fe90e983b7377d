"""Bringing a model to the operator set that has blocks and 4 bits."""

from __future__ import annotations

import warnings

import onnx
from onnx import version_converter

from motet.compiler.quantizing.rewriting import OPSET
from motet.runtime.errors import ModelError


def modern(model: onnx.ModelProto, label: str) -> onnx.ModelProto:
    """``model`` in opset 21 or newer, converted by ONNX where it is older.

    Raises ``ModelError`` where ONNX cannot convert it.
    """
    versions = {each.domain: each.version for each in model.opset_import}
    if versions.get("", OPSET) >= OPSET:
        return model
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return version_converter.convert_version(model, OPSET)
    except Exception as error:  # onnx raises several kinds
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{label}: quantised weights need ONNX's opset {OPSET}; onnx cannot convert the model "
            f"from opset {versions.get('')}: {reason[:200]}; export it anew with a newer opset"
        ) from error
