"""What the tests of depth merging share: ONNX chains of convolutions, merged and run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tvm
from onnx import helper, numpy_helper
from relax_modules import calls, run

from motet.compiler.frontend.load import load_model
from motet.passes.canonicalize import canonicalize
from motet.passes.decisions import Merge
from motet.passes.merge_depth import MergeRecord, merge_depth
from motet.passes.merging.spans import Merged, Span
from motet.passes.options import MergeDepthOptions
from motet.passes.unit_cost import HostTarget
from motet.targets.host.machine import machine_for

HOST = HostTarget(machine_for("x86-64-v3"), threads=1)


class MergingIsFree:
    """Costs by which every span that can merge does, the longest first."""

    def __init__(self, *_: object) -> None:
        pass

    def as_it_is(self, span: Span) -> float:
        return float(span.last - span.first + 1)

    def merged(self, span: Span, merged: Merged) -> float:
        return 0.5 + (0.1 if merged.has_strip else 0.0)


def free_merging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merge all that can be, whatever it costs."""
    monkeypatch.setattr("motet.passes.merge_depth.SpanCosts", MergingIsFree)
    monkeypatch.setattr("motet.passes.merging.pricing.GROWTH", 1e9)


@dataclass
class Graph:
    """An ONNX graph that grows by a node at a time; node names are their output's."""

    seed: int = 0
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def constant(self, value: Any, dtype: str = "float32") -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def random(self, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        return self.constant(self.rng.uniform(low, high, shape))

    def node(self, kind: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        output = name or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def conv(
        self, x: str, into: int, out: int, kernel: Sequence[int] = (1, 1), *, name: str = "",
        bias: bool = True, groups: int = 1, **attributes: Any,
    ) -> str:  # fmt: skip
        fan_in = into // groups * int(np.prod(kernel))
        weight = self.constant(self.rng.normal(size=(out, into // groups, *kernel)) / fan_in**0.5)
        given = [x, weight, *([self.random(out)] if bias else [])]
        return self.node("Conv", given, name, group=groups, **attributes)

    def batch_norm(self, x: str, channels: int, name: str = "") -> str:
        parameters = [self.random(channels) for _ in range(3)]
        variance = self.random(channels, low=0.5, high=1.5)
        return self.node("BatchNormalization", [x, *parameters, variance], name)

    def model(self, shape: Sequence[int | str], *outputs: str) -> onnx.ModelProto:
        """With input x of ``shape``."""
        float32 = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            "chain",
            [helper.make_tensor_value_info("x", float32, list(shape))],
            [helper.make_tensor_value_info(name, float32, None) for name in outputs],
            self.weights,
        )
        opset = helper.make_opsetid("", 18)
        return helper.make_model(graph, opset_imports=[opset], ir_version=9)


def imported(model: onnx.ModelProto | Path, name: str = "main") -> tvm.IRModule:
    """The canonical module of a model."""
    if isinstance(model, Path):
        return canonicalize(load_model(model, name).module)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        return canonicalize(load_model(path, name).module)


def merged(
    mod: tvm.IRModule, target: HostTarget | None = HOST, **options: Any
) -> tuple[tvm.IRModule, MergeRecord]:
    """The module with the pass applied, and what it did."""
    record = MergeRecord()
    return merge_depth(MergeDepthOptions(**options), target, record)(mod), record


def by_onnxruntime(model: onnx.ModelProto, x: Any) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {"x": x}))


def input_for(model: onnx.ModelProto, seed: int = 1, **symbols: int) -> Any:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    shape = [symbols[d.dim_param] if d.dim_param else d.dim_value for d in dims]
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_equal_outputs(mod: tvm.IRModule, model: onnx.ModelProto, **symbols: int) -> None:
    """The module computes what onnxruntime does: within 1e-5 of the largest output."""
    x = input_for(model, **symbols)
    for got, want in zip(run(mod, [x]), by_onnxruntime(model, x), strict=True):
        assert got.shape == want.shape
        scale = max(float(np.abs(want).max(initial=0.0)), 1e-6)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * scale)


def convolutions(mod: tvm.IRModule) -> list[tuple[int, ...]]:
    """Weight shapes of all convolutions, in order."""
    from relax_modules import calls

    return [
        tuple(int(size) for size in call.args[1].ty.shape.values)
        for call in calls(mod["main"])
        if call.op.name.startswith("relax.nn.conv")
    ]


def operators(mod: Any) -> list[str]:
    return [call.op.name.removeprefix("relax.") for call in calls(mod["main"])]


def the_merge(record: MergeRecord) -> Merge:
    (merge,) = record.decided.decisions.merges
    return merge


def reasons(record: MergeRecord) -> list[str]:
    return [kept.reason for kept in record.decided.decisions.kept if len(kept.nodes) > 1]


def inverted_residual(
    graph: Graph, x: str, channels: int, out: int, activation: str = "Relu6", stride: int = 1
) -> str:
    """Expand, depthwise and project, each with batch-norm, and the activation twice."""

    def active(x: str, name: str) -> str:
        if activation == "Relu6":
            bounds = [graph.constant(0.0), graph.constant(6.0)]
            return graph.node("Clip", [x, *bounds], name)
        return graph.node(activation, [x], name)

    middle = 3 * channels
    y = graph.batch_norm(graph.conv(x, channels, middle, name="expand", bias=False), middle)
    y = active(y, "first_activation")
    y = graph.conv(
        y, middle, middle, (3, 3), name="depthwise", groups=middle, pads=[1] * 4,
        strides=[stride] * 2,
    )  # fmt: skip
    y = active(graph.batch_norm(y, middle), "second_activation")
    return graph.batch_norm(graph.conv(y, middle, out, name="project"), out, "normed")


def without_activations(graph: Graph) -> Graph:
    for node in graph.nodes:
        if node.name.endswith("_activation"):
            node.op_type = "Identity"
            del node.input[1:]
            del node.attribute[:]
    return graph
