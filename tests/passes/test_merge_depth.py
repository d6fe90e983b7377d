"""Depth merging of Relax modules: before and expected, and the forms that it knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from merge_chains import (
    Graph,
    assert_equal_outputs,
    convolutions,
    free_merging,
    imported,
    inverted_residual,
    merged,
    operators,
    reasons,
    the_merge,
    without_activations,
)
from relax_modules import assert_equal, calls, run
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.merge_depth import MergeRecord, merge_depth
from motet.passes.options import MergeDepthOptions


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    free_merging(monkeypatch)


# Before and expected


def const(values: Any) -> relax.Expr:
    return relax.const(np.asarray(values, "float32"))


FIRST = np.random.default_rng(0).normal(size=(4, 3, 1, 1))
SECOND = np.random.default_rng(1).normal(size=(2, 4, 3, 3))
SHIFT = np.arange(4.0).reshape(1, 4, 1, 1)


@pytest.mark.usefixtures("free")
def test_before_and_expected() -> None:
    w1, w2, b1 = const(FIRST), const(SECOND), const(SHIFT)
    product = np.einsum("omuv,mi->oiuv", SECOND, FIRST[:, :, 0, 0])
    w = const(product)
    b = const(np.einsum("omuv,m->o", SECOND, SHIFT.ravel())[None, :, None, None])

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32")) -> R.Tensor((1, 2, 3, 3), "float32"):
            with R.dataflow():
                a = R.nn.conv2d(x, w1)
                s = R.add(a, b1)
                c = R.nn.conv2d(s, w2, strides=[2, 2])
                y = R.nn.relu(c)
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32")) -> R.Tensor((1, 2, 3, 3), "float32"):
            with R.dataflow():
                c = R.nn.conv2d(x, w, strides=[2, 2])
                s = R.add(c, b)
                y = R.nn.relu(s)
                R.output(y)
            return y

    after, _ = merged(Before)
    got = [call.args[1].value.numpy() for call in calls(after["main"])[:2]]
    np.testing.assert_allclose(got[0], product, rtol=1e-5, atol=1e-6)
    assert operators(after) == operators(Expected) == ["nn.conv2d", "add", "nn.relu"]
    assert relax.analysis.check_well_formed(after)
    x = np.random.default_rng(2).normal(size=(1, 3, 8, 8)).astype("float32")
    np.testing.assert_allclose(run(after, [x])[0], run(Expected, [x])[0], rtol=1e-5, atol=1e-5)


def test_what_does_not_merge_is_untouched() -> None:
    graph = Graph()
    y = graph.conv(graph.conv("x", 3, 8, (3, 3)), 8, 8, (3, 3))
    before = imported(graph.model([1, 3, 9, 9], graph.node("Relu", [y])))
    after, record = merged(before, None)
    assert_equal(after, before)
    assert reasons(record) == ["left as it is"]


# Forms


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("activation", ["Relu6", "HardSwish", "HardSigmoid", "Mish", "Elu", "Selu"])
def test_an_inverted_residual_block_becomes_one_convolution(
    activation: str, shortcut: bool, stride: int
) -> None:
    out = 4 if shortcut else 6
    shortcut = shortcut and stride == 1
    graph = Graph(3)
    y = inverted_residual(graph, "x", 4, out, activation, stride)
    y = graph.node("Relu", [graph.node("Add", [y, "x"]) if shortcut else y])
    model = graph.model([2, 4, 9, 8], y)
    after, record = merged(imported(model), None, remove_blocks=(0,))
    assert convolutions(after) == [(out, 4, 3, 3)]
    assert operators(after) == ["nn.conv2d", "add", "nn.relu"]
    merge = the_merge(record)
    assert merge.border == "bias_map"
    assert merge.block == 0
    assert merge.shortcut == shortcut
    assert merge.convolutions == ("expand", "depthwise", "project")
    assert [removed.nodes for removed in merge.removed] == [
        ("first_activation",),
        ("second_activation",),
    ]
    assert merge.input == "x"
    assert not merge.is_exact
    assert merge.geometry.padding == (1, 1, 1, 1)
    assert_equal_outputs(after, without_activations(graph).model([2, 4, 9, 8], y))


def test_the_activation_asked_for_stands_behind_the_shortcut() -> None:
    graph = Graph(5)
    y = inverted_residual(graph, "x", 4, 4)
    y = graph.node("Add", ["x", y])
    model = graph.model([1, 4, 6, 6], graph.node("Tanh", [y]))
    after, record = merged(imported(model), None, remove_blocks=(0,), activation="relu6")
    assert operators(after) == ["nn.conv2d", "add", "clip", "tanh"]
    assert the_merge(record).activation == "relu6"


def test_activations_are_removed_by_name() -> None:
    graph = Graph(3)
    y = inverted_residual(graph, "x", 4, 6)
    model = graph.model([1, 4, 8, 8], graph.node("Relu", [y]))
    after, record = merged(imported(model), None, remove=("second_activation",))
    assert convolutions(after) == [(12, 4, 1, 1), (6, 12, 3, 3)]
    assert the_merge(record).convolutions == ("depthwise", "project")
    (kept,) = (one for one in record.decided.decisions.kept if len(one.nodes) > 1)
    assert kept.nodes == ("expand", "depthwise")
    assert kept.removable == (("first_activation",),)
    assert "activation 'first_activation' stands between" in kept.reason


def test_an_affine_function_may_stand_for_an_activation() -> None:
    graph = Graph(4)
    y = inverted_residual(graph, "x", 4, 6)
    y = graph.node("Tanh", [y])
    affine = np.stack([np.linspace(0.3, 1, 12), np.linspace(-1, 1, 12)])
    record = MergeRecord()
    after = merge_depth(
        MergeDepthOptions(remove_blocks=(0,)), None, record, affines={"first_activation": affine}
    )(imported(graph.model([1, 4, 8, 8], y)))
    scale, shift = (graph.constant(row.reshape(12, 1, 1)) for row in affine)
    for node in list(graph.nodes):
        if node.name == "first_activation":
            at = graph.nodes.index(node)
            graph.nodes.remove(node)
            graph.node("Add", [graph.node("Mul", [node.input[0], scale]), shift], node.output[0])
            graph.nodes[at:at] = [graph.nodes.pop(-2), graph.nodes.pop(-1)]
    model = without_activations_but(graph, "first_activation").model([1, 4, 8, 8], y)
    assert_equal_outputs(after, model)


def without_activations_but(graph: Graph, name: str) -> Graph:
    for node in graph.nodes:
        if node.name.endswith("_activation") and node.name != name:
            node.op_type = "Identity"
            del node.input[1:]
    return graph


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize("between", ["Mul", "Clip", "Transpose", "Reshape", "Pad", "Squeeze"])
def test_nothing_hides_a_pattern(between: str) -> None:
    """What stands between convolutions and does nothing, or what is linear, merges."""
    graph = Graph(6)
    y = graph.conv("x", 3, 5, (3, 3))
    if between == "Mul":
        y = graph.node("Mul", [graph.random(5, 1, 1), graph.node("Identity", [y])])
    elif between == "Clip":
        y = graph.node("Clip", [y, "", graph.constant(np.inf)])
    elif between == "Transpose":
        y = graph.node("Transpose", [y], perm=[2, 0, 3, 1])
        y = graph.node("Sub", [y, graph.random(5)])
        y = graph.node("Transpose", [y], perm=[1, 0, 2, 3])
        y = graph.node("Transpose", [y], perm=[0, 3, 1, 2])
    elif between == "Reshape":
        y = graph.node("Flatten", [y], axis=2)
        y = graph.node("Reshape", [y, graph.constant([2, 5, 7, 7], "int64")])
    elif between == "Pad":
        y = graph.node("Pad", [y, graph.constant([0] * 8, "int64")])
    else:
        y = graph.node("Unsqueeze", [y, graph.constant([1], "int64")])
        y = graph.node("Squeeze", [y, graph.constant([1], "int64")])
    y = graph.conv(y, 5, 4, (2, 2))
    model = graph.model([2, 3, 9, 9], graph.node("Relu", [y]))
    after, _ = merged(imported(model))
    assert convolutions(after) == [(4, 3, 4, 4)]
    assert_equal_outputs(after, model)


@pytest.mark.usefixtures("free")
def test_transposes_around_a_shortcut() -> None:
    graph = Graph(6)
    y = graph.conv(graph.conv("x", 4, 6, (3, 3), pads=[1] * 4), 6, 4)
    sides = [graph.node("Transpose", [v], perm=[0, 2, 3, 1]) for v in (y, "x")]
    y = graph.node("Transpose", [graph.node("Add", sides)], perm=[0, 3, 1, 2])
    model = graph.model([1, 4, 7, 7], graph.node("Relu", [y]))
    after, record = merged(imported(model))
    assert convolutions(after) == [(4, 4, 3, 3)]
    assert the_merge(record).shortcut
    assert_equal_outputs(after, model)


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize("shape", [["n", 3, 8, 8], ["n", 3, 8, "w"], ["n", 3, "h", "w"]])
def test_open_sizes_merge_where_the_border_needs_none(shape: list[int | str]) -> None:
    graph = Graph(7)
    y = graph.conv(graph.conv("x", 3, 6), 6, 6, (3, 3), groups=6)
    model = graph.model(shape, graph.node("Relu", [graph.conv(y, 6, 4)]))
    after, record = merged(imported(model))
    assert convolutions(after) == [(4, 3, 3, 3)]
    assert the_merge(record).output_shape[:2] == ("n", 4)
    assert relax.analysis.check_well_formed(after)
    assert_equal_outputs(after, model, n=3, h=7, w=6)


@pytest.mark.usefixtures("free")
def test_a_bias_map_with_an_open_batch() -> None:
    graph = Graph(7)
    y = graph.conv(graph.conv("x", 3, 6), 6, 4, (3, 3), pads=[1] * 4)
    model = graph.model(["n", 3, 8, 7], graph.node("Relu", [y]))
    after, record = merged(imported(model))
    assert the_merge(record).border == "bias_map"
    assert record.weights[the_merge(record).bias].shape == (1, 4, 8, 7)
    assert_equal_outputs(after, model, n=2)


@pytest.mark.usefixtures("free")
def test_open_sizes_and_a_padded_bias_are_refused() -> None:
    graph = Graph(7)
    y = graph.conv(graph.conv("x", 3, 6), 6, 4, (3, 3), pads=[1] * 4)
    before = imported(graph.model([1, 3, "h", "w"], graph.node("Relu", [y])))
    after, record = merged(before)
    assert_equal(after, before)
    assert reasons(record) == ["the bias differs at the border, and the size is open"]


@pytest.mark.usefixtures("free")
def test_a_border_strip() -> None:
    """Two padded 3 x 3 convolutions differ in the outermost ring alone."""
    graph = Graph(8)
    y = graph.conv(graph.conv("x", 3, 4, (3, 3), pads=[1] * 4), 4, 5, (3, 3), pads=[1] * 4)
    model = graph.model(["n", 3, 10, 9], graph.node("Relu", [y]))
    after, record = merged(imported(model))
    merge = the_merge(record)
    assert merge.border == "strip"
    assert merge.strip == (1, 1, 1, 1)
    assert merge.geometry.kernel == (5, 5)
    assert_equal_outputs(after, model, n=2)
