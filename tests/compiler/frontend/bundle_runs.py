"""Models in ONNX's text form, compiled and run as a user would, beside a reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

import motet
from motet.compiler.compile import compile_bundle
from motet.compiler.spec import BundleSpec, ModelSpec
from motet.runtime.model import ModelSession


def parsed(graph: str, opset: int = 17) -> onnx.ModelProto:
    """A model of the graph that ``graph`` spells."""
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    return onnx.parser.parse_model(f"{header}\n{graph}")


def compiled(proto: onnx.ModelProto, folder: Path, **options: Any) -> ModelSession:
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    spec = BundleSpec(models=(ModelSpec(path=str(path), name="m", **options),))
    return motet.load(compile_bundle(spec), threads=1)["m"]


def onnxruntime_run(proto: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, dict(feeds)))


def reference_run(proto: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[Any]:
    return list(ReferenceEvaluator(proto).run(None, dict(feeds)))


def assert_same(got: Any, want: Any) -> None:
    """Arrays, lists of arrays or None: equal types, shapes and (nearly) values."""
    if want is None or isinstance(want, (list, tuple)):
        assert type(got) is (type(None) if want is None else list)
        assert want is None or len(got) == len(want)
        for one, other in zip(got or (), want or (), strict=True):
            assert_same(one, other)
        return
    want = np.asarray(want)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
