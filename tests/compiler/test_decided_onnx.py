"""Merges applied to an ONNX file: onnxruntime computes what it did, all else is untouched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from motet.compiler.decided_onnx import applicable, apply_merges
from motet.passes.decisions import Decided, Decisions, Geometry, Merge, Removed
from motet.passes.merging.algebra import Refusal, add_identity, compose, strips
from motet.passes.merging.convolution import Conv, affine, conv
from motet.runtime.errors import ModelError

ort = pytest.importorskip("onnxruntime")
SIZES = (9, 8)


def _run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {"x": x}))


def _conv(name: str, source: str, of: Conv) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    node = helper.make_node(
        "Conv", [source, f"{name}.w", f"{name}.b"], [f"{name}.y"], name,
        strides=of.stride, pads=of.padding, dilations=of.dilation, group=of.groups,
    )  # fmt: skip
    return node, {f"{name}.w": of.weight, f"{name}.b": of.bias}


def _model(
    nodes: Sequence[onnx.NodeProto], weights: dict[str, np.ndarray], channels: int, output: str,
    opset: int = 17,
) -> onnx.ModelProto:  # fmt: skip
    graph = helper.make_graph(
        list(nodes), "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, channels, *SIZES])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(w, "f4"), n) for n, w in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, {"author": "someone"})
    return model


def _decision(
    made: Conv, nodes: Sequence[str], output: str, **more: Any
) -> tuple[Merge, dict[str, np.ndarray]]:
    shape = Geometry(
        in_channels=made.in_channels, out_channels=made.out_channels, kernel=made.kernel,
        stride=made.stride, padding=made.padding, dilation=made.dilation, groups=made.groups,
    )  # fmt: skip
    merge = Merge(
        model="m", block=0, nodes=tuple(nodes), convolutions=tuple(nodes), input="x",
        output=output, input_shape=(2, made.in_channels, *SIZES), output_shape=(),
        geometry=shape, weight="w", bias="b", **more,
    )  # fmt: skip
    bias = made.bias[None] if made.has_map else made.bias
    return merge, {"w": made.weight.astype("f4"), "b": bias.astype("f4")}


def _applied(
    model: onnx.ModelProto, merge: Merge, weights: dict[str, np.ndarray]
) -> onnx.ModelProto:
    return apply_merges(model, Decided(Decisions(decisions=(merge,)), weights), "m.onnx")


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Conv, Conv, int]:
    """Two convolutions in a row, padded anyhow, and a seed."""
    seed = draw(st.integers(0, 2**16))
    random = np.random.default_rng(seed)

    def one(inner: int, outer: int) -> Conv:
        kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        return conv(
            random.standard_normal((outer, inner, *kernel)),
            random.standard_normal(outer),
            (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
            [draw(st.integers(0, 1)) for _ in range(4)],
        )  # fmt: skip

    return one(2, 3), one(3, 2), seed


@given(pairs())
@settings(max_examples=40, deadline=None)
def test_two_convolutions_with_any_border_are_one(pair: tuple[Conv, Conv, int]) -> None:
    first, second, seed = pair
    made, strip = compose(first, second, SIZES), (0, 0, 0, 0)
    if isinstance(made, Refusal):
        strip = strips([first, second], SIZES)
        made = compose(first, second, SIZES, ignore_border=True)
    outer = second.sizes(first.sizes(SIZES))
    ends = zip(strip[:2], strip[2:], outer, strict=True)
    if isinstance(made, Refusal) or any(near + far >= size for near, far, size in ends):
        return
    one, weights = _conv("a", "x", first)
    between = helper.make_node("Identity", ["a.y"], ["same"])  # no decision names it
    other, more = _conv("b", "same" if seed % 2 else "a.y", second)
    nodes = [one, between, other] if seed % 2 else [one, other]
    model = _model(nodes, weights | more, 2, "b.y")
    x = np.random.default_rng(seed).standard_normal((2, 2, *SIZES)).astype("f4")
    want = _run(model, x)[0]
    merge, arrays = _decision(made, ["a", "b"], "b", strip=strip if any(strip) else ())
    have = _run(_applied(model, merge, arrays), x)[0]
    np.testing.assert_allclose(have, want, atol=1e-5 * max(1, np.abs(want).max()))


def _residual(opset: int) -> tuple[onnx.ModelProto, Conv, Conv, Conv]:
    """x + project(depthwise(relu6(expand(x)))), then a Relu that stays, and an old name."""
    random = np.random.default_rng(1)
    expand = conv(random.standard_normal((6, 2, 1, 1)), random.standard_normal(6))
    depthwise = conv(random.standard_normal((6, 1, 3, 3)), random.standard_normal(6),
                     padding=(1, 1, 1, 1), groups=6)  # fmt: skip
    project = conv(random.standard_normal((2, 6, 1, 1)), random.standard_normal(2))
    nodes, weights = [], {}
    for name, source, of in (
        ("expand", "x", expand),
        ("depthwise", "relu6.y", depthwise),
        ("project", "depthwise.y", project),
    ):  # fmt: skip
        node, arrays = _conv(name, source, of)
        nodes.append(node)
        weights |= arrays
    if opset >= 11:
        weights |= {"low": np.array(0.0), "high": np.array(6.0)}
        clip = helper.make_node("Clip", ["expand.y", "low", "high"], ["relu6.y"], "relu6")
    else:
        clip = helper.make_node("Clip", ["expand.y"], ["relu6.y"], "relu6", min=0.0, max=6.0)
    nodes.insert(1, clip)
    nodes += [
        helper.make_node("Add", ["x", "project.y"], ["sum"], "add"),
        helper.make_node("Relu", ["sum"], ["y"], "behind", doc_string="kept"),
    ]
    return _model(nodes, weights, 2, "y", opset), expand, depthwise, project


NODES = ["expand", "relu6", "depthwise", "project", "add"]


@pytest.mark.parametrize("opset", [9, 17])
@pytest.mark.parametrize("with_map", [False, True])
def test_a_block_without_its_activation_is_one_convolution(opset: int, with_map: bool) -> None:
    model, expand, depthwise, project = _residual(opset)
    scale, shift = np.linspace(0.5, 1.5, 6), np.linspace(-1, 1, 6) if with_map else np.zeros(6)
    inner = compose(expand, affine(scale, shift, 6), SIZES)
    assert isinstance(inner, Conv)
    if not with_map:
        inner = inner.with_bias(np.zeros(6))
    made = compose(inner, depthwise, SIZES)
    assert isinstance(made, Conv)
    made = compose(made, project, SIZES)
    assert isinstance(made, Conv)
    assert made.has_map == with_map
    made = add_identity(made)
    assert isinstance(made, Conv)
    removed = (Removed(nodes=("relu6",), affine="affine"),)
    merge, weights = _decision(made, NODES, "add", removed=removed, shortcut=True)
    found = _applied(model, merge, weights)
    x = np.random.default_rng(0).standard_normal((2, 2, *SIZES)).astype("f4")
    have, want = _run(found, x)[0], np.maximum(made(x), 0)
    np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4)
    assert [n.op_type for n in found.graph.node] == ["Conv", *["Add"] * with_map, "Relu"]


def test_everything_else_stays() -> None:
    model, *_ = _residual(17)
    unused = numpy_helper.from_array(np.ones(2, "f4"), "unused")
    model.graph.initializer.append(unused)
    model.graph.node.append(helper.make_node("Neg", ["relu6.y"], ["other"], "reader"))
    model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, None))
    before = model.SerializeToString()
    made = conv(np.zeros((2, 2, 3, 3)), padding=(1, 1, 1, 1))
    merge, weights = _decision(made, NODES, "add", removed=(Removed(nodes=("relu6",)),))
    found = _applied(model, merge, weights)
    assert model.SerializeToString() == before
    assert found.opset_import == model.opset_import
    assert found.metadata_props == model.metadata_props
    assert [i.name for i in found.graph.output] == ["y", "other"]
    kept = {n.name: n for n in found.graph.node}
    # What another node reads of the merged ones is still computed, with its weights.
    assert set(kept) == {"expand", "relu6", "reader", "behind", "add/merged"}
    assert kept["behind"] == next(n for n in model.graph.node if n.name == "behind")
    names = {t.name for t in found.graph.initializer}
    assert {"unused", "expand.w", "low", "high"} <= names
    assert not names & {"depthwise.w", "project.b"}


def test_an_activation_of_its_own_follows() -> None:
    model, *_ = _residual(9)
    made = conv(np.ones((2, 2, 1, 1)), np.full(2, 5.0))
    for kind, most in (("relu6", 6.0), ("relu", np.inf)):
        merge, weights = _decision(made, NODES, "add", activation=kind)
        x = np.random.default_rng(0).standard_normal((2, 2, *SIZES)).astype("f4")
        have = _run(_applied(model, merge, weights), x)[0]
        np.testing.assert_allclose(have, np.clip(made(x), 0, most), atol=1e-5)


def test_unnamed_and_unsorted_nodes_are_found() -> None:
    model, *_ = _residual(17)
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    for node in nodes:
        node.ClearField("name")
    del model.graph.node[:]
    model.graph.node.extend([nodes[-1], *nodes[:-1]])
    made = conv(np.ones((2, 2, 1, 1)))
    names = ["Conv_0", "Clip_1", "Conv_2", "Conv_3", "Add_4"]
    merge, weights = _decision(made, names, "Add_4")
    found = _applied(model, merge, weights)
    assert [n.op_type for n in found.graph.node] == ["Conv", "Relu"]


def test_decisions_of_another_model_are_refused() -> None:
    model, *_ = _residual(17)
    merge, weights = _decision(conv(np.ones((2, 2, 1, 1))), ["stranger"], "stranger")
    with pytest.raises(ModelError, match=r"m\.onnx: there is no node 'stranger'"):
        _applied(model, merge, weights)


def test_decisions_of_other_layers_by_the_same_names_are_refused() -> None:
    model, *_ = _residual(17)
    merge, weights = _decision(conv(np.ones((3, 2, 1, 1))), NODES, "add")
    named = replace(merge, convolutions=("expand", "depthwise", "project"))
    with pytest.raises(ModelError, match="have 2 and 2 channels, its decision 2 and 3"):
        _applied(model, named, weights)


def test_a_file_with_weights_beside_it_is_merged(tmp_path: Path) -> None:
    from motet.compiler.onnx_files import read_whole, write_whole

    model, *_ = _residual(17)
    write_whole(model, tmp_path / "m.onnx", beside=True)
    whole, _ = read_whole(tmp_path / "m.onnx")
    merge, weights = _decision(conv(np.ones((2, 2, 1, 1))), NODES, "add")
    x = np.ones((2, 2, *SIZES), "f4")
    assert np.array_equal(_run(_applied(whole, merge, weights), x)[0], np.full_like(x, 2.0))


def test_a_merge_that_the_file_cannot_express_is_kept_with_its_reason() -> None:
    model, *_ = _residual(17)
    made = conv(np.ones((2, 2, 1, 1)))
    good, weights = _decision(made, NODES, "add")
    bad = replace(good, nodes=("expand", "project"), output="project")  # without what is between
    found = applicable(model, Decided(Decisions(decisions=(bad, good)), weights), "m.onnx")
    assert found.decisions.merges == (good,)
    (kept,) = found.decisions.kept
    assert kept.nodes == bad.nodes
    assert kept.reason == (
        "nodes expand, project read 2 values (x, depthwise.y), where one is expected"
    )
