"""Random uses of operators: many nodes in one model, compiled by Motet, against a reference.

A family's test draws ``Use``s from a seeded ``Draw`` (so they are the same every time) and
gives them to ``check_uses``, which compiles one model of all of them and compares every output.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import motet

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Use:
    """A node: ``feeds`` are its run-time inputs, ``constants`` its weights, by formal name.

    order: the inputs' names in the node's order where that is not feeds, then constants;
    an empty name is an input left out. want: the right outputs where no evaluator has them;
    makes: element types of the outputs that onnx does not infer.
    """

    op: str
    feeds: Mapping[str, Array]
    constants: Mapping[str, Array] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    order: Sequence[str] | None = None
    want: Sequence[Array] | None = None
    domain: str = ""
    makes: Sequence[str] = ()

    def node(self, number: int) -> onnx.NodeProto:
        """The node with every name made unique by ``number``."""
        names = [*self.feeds, *self.constants] if self.order is None else self.order
        return helper.make_node(
            self.op,
            [name and f"{name}_{number}" for name in names],
            [f"out{i}_{number}" for i in range(self.outputs)],
            name=f"{self.op}_{number}",
            domain=self.domain,
            **self.attributes,
        )

    def __str__(self) -> str:
        shapes = {n: f"{a.dtype}{list(a.shape)}" for n, a in self.feeds.items()}
        known = {n: a.tolist() if a.size < 20 else a.shape for n, a in self.constants.items()}
        return f"{self.op} {shapes} {known} {dict(self.attributes)}"


def model_of(uses: Sequence[Use], opset: int) -> onnx.ModelProto:
    """One graph of all uses, which share nothing."""
    nodes = [use.node(i) for i, use in enumerate(uses)]
    infos = [
        helper.make_tensor_value_info(f"{n}_{i}", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for i, use in enumerate(uses)
        for n, a in use.feeds.items()
    ]
    weights = [
        numpy_helper.from_array(a, f"{n}_{i}")
        for i, use in enumerate(uses)
        for n, a in use.constants.items()
    ]
    outputs = [name for node in nodes for name in node.output]
    domains = sorted({use.domain for use in uses} - {""})
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    graph = helper.make_graph(
        nodes, "uses", infos, [onnx.ValueInfoProto(name=n) for n in outputs], weights
    )
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    known = {
        f"out{k}_{i}": helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        for i, use in enumerate(uses)
        for k, dtype in enumerate(use.makes)
    }
    return _typed(proto, outputs, known)


def _typed(
    proto: onnx.ModelProto, outputs: Sequence[str], known: Mapping[str, int]
) -> onnx.ModelProto:
    """With the element types of the outputs; their shapes are left to the front end."""
    found = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    kinds = {o.name: o.type.tensor_type.elem_type for o in found.graph.output}
    del proto.graph.output[:]
    for name in outputs:
        info = onnx.ValueInfoProto(name=name)
        info.type.tensor_type.elem_type = kinds.get(name, 0) or known.get(name, 0)
        proto.graph.output.append(info)
    return proto


def check_uses(
    uses: Sequence[Use],
    opset: int = 18,
    rtol: float = 2e-5,
    atol: float = 2e-5,
    truth: str = "onnx",
) -> None:
    """Compile all uses as one model and compare each; ``truth`` is onnx or onnxruntime."""
    proto = model_of(uses, opset)
    feeds = {f"{n}_{i}": a for i, use in enumerate(uses) for n, a in use.feeds.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "uses.onnx"
        path.write_bytes(proto.SerializeToString())
        got = motet.load(motet.compile(path), threads=1).run(None, feeds)
    for number, use in enumerate(uses):
        want = _truth(use, opset, truth) if use.want is None else use.want
        for i in range(use.outputs):
            what = f"output {i} of {use}"
            _compare(got[f"out{i}_{number}"], np.asarray(want[i]), what, rtol, atol)


def _truth(use: Use, opset: int, truth: str) -> Sequence[Any]:
    proto = model_of([use], opset)
    feeds = {f"{name}_0": array for name, array in use.feeds.items()}
    if truth == "onnxruntime":
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return list(session.run(None, feeds))
    with np.errstate(all="ignore"):
        found = ReferenceEvaluator(proto).run(None, feeds)
    # The evaluator gives what numpy does: int64 sums of int32, for one.
    kinds = [output.type.tensor_type.elem_type for output in proto.graph.output]
    return [
        np.asarray(one).astype(helper.tensor_dtype_to_np_dtype(kind)) if kind else np.asarray(one)
        for one, kind in zip(found, kinds, strict=True)
    ]


def _compare(got: Array, want: Array, what: str, rtol: float, atol: float) -> None:
    assert (got.shape, got.dtype) == (want.shape, want.dtype), what
    np.testing.assert_allclose(
        got.astype("float64"), want.astype("float64"), rtol=rtol, atol=atol, err_msg=what
    )


class Draw:
    """A seeded source of shapes, attributes and tensors."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def flag(self) -> bool:
        """True or false."""
        return bool(self.random.integers(2))

    def int(self, low: int, high: int) -> int:
        """An integer, both ends included."""
        return int(self.random.integers(low, high, endpoint=True))

    def of(self, *choices: Any) -> Any:
        """One of ``choices``."""
        return choices[self.int(0, len(choices) - 1)]

    def some(self, count: int, low: int = 0) -> list[int]:
        """At least ``low`` different numbers below ``count``, in any order."""
        order = self.random.permutation(count)[: self.int(low, count)]
        return [int(i) for i in order]

    def shape(self, low: int = 1, high: int = 4, most: int = 6) -> tuple[int, ...]:
        """Rank ``low`` to ``high``, extents 1 to ``most``."""
        return tuple(self.int(1, most) for _ in range(self.int(low, high)))

    def broadcasting(self, count: int, most: int = 5) -> list[tuple[int, ...]]:
        """``count`` shapes that broadcast with one another, of different ranks too."""
        full, found = self.shape(1, 4, most), []
        for _ in range(count):
            kept = full[self.int(0, len(full) - 1) :]
            found.append(tuple(1 if self.int(0, 3) == 0 else d for d in kept))
        return found

    def tensor(
        self, shape: Sequence[int], dtype: str = "float32", low: float = -3, high: float = 3
    ) -> Array:
        """Values between ``low`` and ``high``, both included where these are integers."""
        if dtype == "bool":
            return self.random.integers(0, 2, shape).astype(bool)
        if np.dtype(dtype).kind in "iu":
            return self.random.integers(int(low), int(high), shape, endpoint=True).astype(dtype)
        return np.asarray(self.random.uniform(low, high, shape)).astype(dtype)

    def axis(self, rank: int) -> int:
        """An axis, counted from either end."""
        return self.int(-rank, rank - 1)


def seeds(count: int) -> Any:
    """Parametrises a test by ``seed``; MOTET_RANDOM_SEEDS asks for more of them."""
    return pytest.mark.parametrize("seed", range(int(os.environ.get("MOTET_RANDOM_SEEDS", count))))


def drawn(seed: int, each: int, *families: Callable[[Draw], Use]) -> list[Use]:
    """``each`` uses of every family."""
    draw = Draw(seed)
    return [family(draw) for family in families for _ in range(each)]


def int64(*values: int) -> Array:
    """A list of integers as shapes and axes are given."""
    return np.array(values, np.int64)
