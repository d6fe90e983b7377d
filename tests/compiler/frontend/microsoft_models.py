"""Several uses of ``com.microsoft`` operators as one model, compiled and compared."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import motet

DOMAIN = "com.microsoft"


def floats(rng: np.random.Generator, *shape: int, dtype: str = "float32") -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


@dataclass
class Uses:
    """Nodes of one model, each on inputs and weights of its own.

    symbolic: sizes that inputs are declared with as a symbolic dimension, one for each.
    """

    opset: int = 17
    symbolic: Collection[int] = ()
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    feeds: dict[str, np.ndarray] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    outputs: list[tuple[str, np.dtype[Any]]] = field(default_factory=list)

    def add(
        self,
        op_type: str,
        *inputs: np.ndarray | None,
        constants: Sequence[int] = (),
        outputs: Sequence[Any] = ("float32",),
        domain: str = DOMAIN,
        **attributes: Any,
    ) -> None:
        """A node; ``constants`` says which inputs are weights; outputs are dtypes or None."""
        index = len(self.nodes)
        names = []
        for place, array in enumerate(inputs):
            name = "" if array is None else f"in{index}_{place}"
            names.append(name)
            if array is not None:
                (self.weights if place in constants else self.feeds)[name] = array
        results = [f"out{index}_{i}" if d else "" for i, d in enumerate(outputs)]
        self.outputs += [(n, d) for n, d in zip(results, outputs, strict=True) if d]
        node = helper.make_node(
            op_type, names, results, name=f"node{index}", domain=domain, **attributes
        )
        self.nodes.append(node)

    def proto(self) -> onnx.ModelProto:
        def info(name: str, dtype: Any, shape: Any) -> onnx.ValueInfoProto:
            elem = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            return helper.make_tensor_value_info(name, elem, shape)

        def dims(array: np.ndarray) -> list[Any]:
            return [f"n{d}" if d in self.symbolic else d for d in array.shape]

        graph = helper.make_graph(
            self.nodes,
            "g",
            [info(n, a.dtype, dims(a)) for n, a in self.feeds.items()],
            [info(n, d, None) for n, d in self.outputs],
            [numpy_helper.from_array(a, n) for n, a in self.weights.items()],
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def run(self, folder: Path) -> list[np.ndarray]:
        """The outputs, compiled by Motet."""
        return run(self.proto(), self.feeds, folder)

    def check(self, folder: Path, rtol: float = 1e-4, atol: float = 2e-5) -> None:
        """Compare with onnxruntime."""
        compare(self.run(folder), truth(self.proto(), self.feeds), rtol, atol)


def run(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], folder: Path) -> list[np.ndarray]:
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    session = motet.load(motet.compile(path), threads=1)
    return list(session["m"].run(None, feeds))


def truth(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What onnxruntime computes, without its own fusions."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = runtime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))


def compare(
    got: Sequence[np.ndarray], want: Sequence[np.ndarray], rtol: float = 1e-4, atol: float = 2e-5
) -> None:
    assert len(got) == len(want)
    for index, (a, b) in enumerate(zip(got, want, strict=True)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), f"output {index}"
        np.testing.assert_allclose(
            a, b, rtol=rtol, atol=atol, equal_nan=True, err_msg=f"output {index}"
        )
