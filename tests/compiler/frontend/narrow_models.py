"""Models of narrow element types: built, compiled and run in one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

import motet

Array = NDArray[Any]
FLOATS = {
    "BFLOAT16": "bfloat16",
    "FLOAT8E4M3FN": "float8_e4m3fn",
    "FLOAT8E4M3FNUZ": "float8_e4m3fnuz",
    "FLOAT8E5M2": "float8_e5m2",
    "FLOAT8E5M2FNUZ": "float8_e5m2fnuz",
    "FLOAT4E2M1": "float4_e2m1fn",
}
INTEGERS = {"INT4": "int4", "UINT4": "uint4", "INT2": "int2", "UINT2": "uint2"}


def elem(array: Array) -> int:
    """The ONNX element type of an array."""
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))


def proto(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Array],
    outputs: Mapping[str, str],
    weights: Mapping[str, Array] | None = None,
    opset: int = 25,
) -> onnx.ModelProto:
    """A model whose inputs are as ``inputs``; ``outputs``: name -> element type."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(n, elem(a), a.shape) for n, a in inputs.items()],
        [
            helper.make_tensor_value_info(n, getattr(TensorProto, t), None)
            for n, t in outputs.items()
        ],
        [onnx.numpy_helper.from_array(a, n) for n, a in (weights or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=11)


def run(made: onnx.ModelProto, inputs: Mapping[str, Array], folder: Path) -> dict[str, Array]:
    """The outputs of the model, compiled for the host."""
    path = folder / "m.onnx"
    onnx.save(made, path)
    return dict(motet.load(motet.compile(path), threads=1).run("m", inputs))


def assert_same(got: Array, want: Array) -> None:
    """Equal to the bit, NaN for NaN; of one dtype."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    width = {1: np.uint8, 2: np.uint16, 4: np.uint32}[want.dtype.itemsize]
    nan = np.isnan(want.astype(np.float32))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float32)), nan)
    wrong = (got.view(width) != want.view(width)) & ~nan
    assert not wrong.any(), (got[wrong][:8], want[wrong][:8])
