"""Small ONNX models for the tests of the front end, and running what was imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from tvm import relax

from motet.compiler.frontend.load import ImportedModel, load_model

FLOAT = TensorProto.FLOAT


def value(name: str, dims: Sequence[Any] | None, elem: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem, dims)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 18,
) -> onnx.ModelProto:
    weights = [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def relu_model(dims: Sequence[Any] = (2, 3), out: Sequence[Any] | None = None) -> onnx.ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"], name="act")
    return model([node], [value("x", dims)], [value("y", dims if out is None else out)])


def single(
    op_type: str,
    feeds: dict[str, np.ndarray],
    constants: dict[str, np.ndarray] | None = None,
    inputs: Sequence[str] | None = None,
    outputs: int = 1,
    opset: int = 18,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node whose run-time inputs are ``feeds``."""
    constants = constants or {}
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(
        op_type, list(inputs or [*feeds, *constants]), names, name="the_node", **attributes
    )
    infos = [value(n, a.shape, helper.np_dtype_to_tensor_dtype(a.dtype)) for n, a in feeds.items()]
    bare = model([node], infos, [onnx.ValueInfoProto(name=n) for n in names], constants, opset)
    # onnx infers the outputs' types; their shapes are left to the front end.
    found = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    elems = {o.name: o.type.tensor_type.elem_type for o in found.graph.output}
    del bare.graph.output[:]
    for name in names:
        info = onnx.ValueInfoProto(name=name)
        info.type.tensor_type.elem_type = elems[name]
        bare.graph.output.append(info)
    return bare


def saved(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def load(proto: onnx.ModelProto, folder: Path, **options: Any) -> ImportedModel:
    return load_model(saved(proto, folder), "m", **options)


def run(imported: ImportedModel, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs, through TVM's default pipeline and its own VM."""
    target = tvm.target.Target({"kind": "llvm"})
    machine = relax.VirtualMachine(tvm.compile(imported.module, target=target), tvm.cpu())
    arguments = [tvm.runtime.tensor(feeds[info.name]) for info in imported.inputs]
    result = machine[imported.name](*arguments)
    return [r.numpy() for r in ([result] if hasattr(result, "numpy") else list(result))]


def true_outputs(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], truth: str) -> list[Any]:
    """What onnxruntime computes, or onnx's reference evaluator (``truth`` "onnx")."""
    if truth == "onnxruntime":
        runtime = pytest.importorskip("onnxruntime")
        session = runtime.InferenceSession(
            proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return list(session.run(None, feeds))
    return list(ReferenceEvaluator(proto).run(None, feeds))


def check(
    proto: onnx.ModelProto,
    feeds: dict[str, np.ndarray],
    folder: Path,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    truth: str = "onnx",
) -> ImportedModel:
    """Import, run, and compare with onnx's reference evaluator, or with onnxruntime."""
    imported = load(proto, folder)
    want = true_outputs(proto, feeds, truth)
    got = run(imported, feeds)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert (a.shape, a.dtype) == (np.shape(b), np.asarray(b).dtype)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
    return imported


def operators(imported: ImportedModel) -> list[str]:
    """Names of the Relax operators of the entry function, in order."""
    return [str(call.op.name) for call in calls(imported)]


def calls(imported: ImportedModel) -> list[relax.Call]:
    found: list[relax.Call] = []

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, relax.Call):
            found.append(expr)

    relax.analysis.post_order_visit(imported.module[imported.name], visit)
    return found
