"""Random chains of convolutions, merged wherever they can be, against onnxruntime."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from merge_chains import Graph, assert_equal_outputs, free_merging, imported, merged

from motet.passes.decisions import Merge
from motet.passes.merging.blocks import Blocks
from motet.passes.merging.chains import chains_of

CHANNELS = (2, 4, 6)
BETWEEN = (
    "HardSwish", "Relu", "HardSigmoid", "nothing", "nothing", "batch_norm", "scale", "shift",
    "divide", "from_left", "negate", "transposed", "reshaped", "identity", "pad", "pad_with",
    "shift_map", "clip_open",
)  # fmt: skip
ACTIVATIONS = ("Relu", "HardSwish", "HardSigmoid")


@st.composite
def layers(draw: st.DrawFn, rank: int, into: int) -> dict[str, Any]:
    out = draw(st.sampled_from(CHANNELS))
    common = [g for g in (1, 2, 3, 4, 6) if into % g == 0 and out % g == 0]
    kernel = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    padded = draw(st.booleans())
    return {
        "out": out,
        "kernel": kernel,
        "groups": draw(st.sampled_from(common)),
        "bias": draw(st.booleans()),
        "strides": draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank)),
        "dilations": draw(st.lists(st.sampled_from((1, 1, 2)), min_size=rank, max_size=rank)),
        "pads": [draw(st.integers(0, k - 1)) if padded else 0 for k in (*kernel, *kernel)],
    }


def put_between(graph: Graph, kind: str, x: str, channels: int, sizes: list[int]) -> str:
    rank = len(sizes)
    per_channel = (channels, *(1,) * rank)
    if kind == "batch_norm":
        return graph.batch_norm(x, channels)
    if kind == "scale":
        return graph.node("Mul", [x, graph.random(*per_channel)])
    if kind == "shift":
        return graph.node("Add", [graph.random(1, *per_channel), x])
    if kind == "divide":
        return graph.node("Div", [x, graph.random(*per_channel, low=0.5, high=2.0)])
    if kind == "from_left":
        return graph.node("Sub", [graph.random(), x])
    if kind == "negate":
        return graph.node("Neg", [x])
    if kind == "transposed":
        order = [0, *range(2, rank + 2), 1]
        x = graph.node("Transpose", [x], perm=order)
        x = graph.node("Mul", [x, graph.random(channels)])
        return graph.node("Transpose", [x], perm=[order.index(n) for n in range(rank + 2)])
    if kind == "reshaped":
        flat = graph.constant([0, channels, -1], "int64")
        x = graph.node("Add", [graph.node("Reshape", [x, flat]), graph.random(channels, 1)])
        return graph.node("Reshape", [x, graph.constant([0, channels, *sizes], "int64")])
    if kind == "identity":
        return graph.node("Identity", [x])
    if kind in ("pad", "pad_with"):
        widths = [0, 0, *(1,) * rank, 0, 0, *(2,) * rank]
        value = [graph.random()] if kind == "pad_with" else []
        sizes[:] = [size + 3 for size in sizes]
        return graph.node("Pad", [x, graph.constant(widths, "int64"), *value])
    if kind == "shift_map":
        return graph.node("Add", [x, graph.random(channels, *sizes)])
    if kind in ACTIVATIONS:
        return graph.node(kind, [x])
    return graph.node("Clip", [x]) if kind == "clip_open" else x


@st.composite
def chains(draw: st.DrawFn) -> onnx.ModelProto:
    rank = draw(st.sampled_from((1, 2, 2, 2)))
    graph = Graph(draw(st.integers(0, 99)))
    channels = draw(st.sampled_from(CHANNELS))
    sizes = [draw(st.integers(6, 10)) for _ in range(rank)]
    start = [2, channels, *sizes]
    x = "x"
    for _ in range(draw(st.integers(2, 3))):
        for _ in range(draw(st.integers(1, 2))):
            x = put_between(graph, draw(st.sampled_from(BETWEEN)), x, channels, sizes)
        layer = draw(layers(rank, channels))
        channels, source = layer.pop("out"), channels
        pads, k, d, s = (layer[n] for n in ("pads", "kernel", "dilations", "strides"))
        sizes = [
            (size + pads[a] + pads[rank + a] - (k[a] - 1) * d[a] - 1) // s[a] + 1
            for a, size in enumerate(sizes)
        ]
        assume(min(sizes) > 0)
        kernel = layer.pop("kernel")
        x = graph.conv(x, source, channels, kernel, **layer)
    x = put_between(graph, draw(st.sampled_from(BETWEEN)), x, channels, sizes)
    if draw(st.booleans()) and [2, channels, *sizes] == start:
        x = graph.node(draw(st.sampled_from(("Add", "Sub"))), draw(st.permutations([x, "x"])))
    assume(x != "x")
    return graph.model(start, graph.node("Tanh", [x]))


def without(model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """``model`` with the activations of these names doing nothing."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for node in result.graph.node:
        if node.name in names:
            node.op_type = "Identity"
    return result


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(model=chains(), chosen=st.sampled_from((15, 5, 2, 0)))
def test_merged_chains_compute_the_same(
    model: onnx.ModelProto, chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with some of the activations removed: the network without those computes the same."""
    free_merging(monkeypatch)
    before = imported(model)
    between = sorted(Blocks(chains_of(before["main"], "main")).activations())
    asked = tuple(name for at, name in enumerate(between) if chosen >> at & 1)
    after, record = merged(before, remove=asked)
    merges = record.decided.decisions.merges
    removed = {name for merge in merges for one in merge.removed for name in one.nodes}
    assert removed <= set(asked)
    for decision in record.decisions:
        assert isinstance(decision, Merge) or decision.reason
    assert_equal_outputs(after, without(model, removed))
