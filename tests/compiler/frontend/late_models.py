"""Models whose shapes depend on data: compiled, run several times, compared with onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from frontend_models import model, value
from onnx import helper
from onnxruntime import InferenceSession

import motet
from motet.runtime.session import ModelSession

Array = np.ndarray[Any, Any]


def node(op: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> onnx.NodeProto:
    names = list(outputs or ["y"])
    return helper.make_node(op, list(inputs), names, name=f"{op}_of_{names[0]}", **attributes)


def compiled(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[Sequence[Any], str]],
    constants: dict[str, Array] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
) -> tuple[ModelSession, InferenceSession]:
    """The model in Motet and in onnxruntime; inputs by name: dimensions and dtype."""
    infos = [
        value(name, dims, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
        for name, (dims, dtype) in inputs.items()
    ]
    bare = model(nodes, infos, [onnx.ValueInfoProto(name=n) for n in outputs], constants, opset)
    found = onnx.shape_inference.infer_shapes(bare)
    elems = {info.name: info.type.tensor_type.elem_type for info in found.graph.output}
    del bare.graph.output[:]
    bare.graph.output.extend(value(name, None, elems[name]) for name in outputs)
    path = folder / "m.onnx"
    onnx.save(bare, path)
    truth = InferenceSession(bare.SerializeToString(), providers=["CPUExecutionProvider"])
    return motet.load(motet.compile(path))["m"], truth


def check(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    feeds: Sequence[dict[str, Array]],
    constants: dict[str, Array] | None = None,
    outputs: Sequence[str] = ("y",),
    symbols: dict[str, Sequence[Any]] | None = None,
    **options: Any,
) -> ModelSession:
    """Run one session on all ``feeds``, which have the shapes of the first but for ``symbols``."""
    inputs = {
        name: ((symbols or {}).get(name, array.shape), array.dtype.name)
        for name, array in feeds[0].items()
    }
    session, truth = compiled(folder, nodes, inputs, constants, outputs, **options)
    for feed in feeds:
        want = truth.run(None, feed)
        got = session.run(None, feed)
        for name, a, b in zip(outputs, got, want, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype), name
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=name)
    return session
