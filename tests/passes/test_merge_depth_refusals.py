"""Where convolutions must not merge, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
from merge_chains import (
    Graph,
    assert_equal_outputs,
    by_onnxruntime,
    convolutions,
    free_merging,
    imported,
    input_for,
    merged,
    reasons,
    the_merge,
    without_activations,
)
from relax_modules import assert_equal, run


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    free_merging(monkeypatch)


@pytest.mark.usefixtures("free")
def test_a_value_that_is_read_twice_stays() -> None:
    graph = Graph(9)
    inner = graph.conv("x", 3, 4, name="inner")
    outer = graph.conv(inner, 4, 4, (3, 3), pads=[1] * 4)
    y = graph.node("Add", [graph.node("Tanh", [inner]), outer])
    before = imported(graph.model([1, 3, 8, 8], y))
    after, record = merged(before)
    assert_equal(after, before)
    found = {kept.nodes: kept.reason for kept in record.decided.decisions.kept}
    assert "read by 2 operators" in found["inner",]


@pytest.mark.usefixtures("free")
def test_an_output_stays() -> None:
    graph = Graph(9)
    inner = graph.conv("x", 3, 4, name="inner")
    outer = graph.conv(inner, 4, 4, (3, 3))
    before = imported(graph.model([1, 3, 8, 8], inner, outer))
    after, record = merged(before)
    assert_equal(after, before)
    found = {kept.nodes: kept.reason for kept in record.decided.decisions.kept}
    assert "is an output of the model" in found["inner",]


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize("between", ["MaxPool", "Transpose", "reflect"])
def test_what_is_not_linear_or_elementwise_parts(between: str) -> None:
    graph = Graph(9)
    y = graph.conv("x", 3, 4, name="inner")
    if between == "MaxPool":
        y = graph.node("MaxPool", [y], kernel_shape=[2, 2])
    elif between == "Transpose":
        y = graph.node("Transpose", [y], perm=[0, 1, 3, 2])
    else:
        y = graph.node("Pad", [y, graph.constant([0, 0, 1, 1] * 2, "int64")], mode="reflect")
    model = graph.model([1, 3, 8, 6], graph.conv(y, 4, 4, (3, 3)))
    after, record = merged(imported(model))
    assert len(convolutions(after)) == 2
    found = {kept.nodes: kept.reason for kept in record.decided.decisions.kept}
    assert found["inner",]
    assert_equal_outputs(after, model)


def test_squeeze_and_excitation_parts_a_block() -> None:
    graph = Graph(9)
    y = graph.conv("x", 4, 8, (3, 3), name="inner", pads=[1] * 4, groups=4)
    pooled = graph.conv(graph.node("GlobalAveragePool", [y]), 8, 8)
    y = graph.node("Mul", [y, graph.node("Sigmoid", [pooled])])
    model = graph.model([1, 4, 6, 6], graph.conv(y, 8, 4))
    _, record = merged(imported(model))
    found = {kept.nodes: kept.reason for kept in record.decided.decisions.kept}
    assert "read by 2 operators" in found["inner",]


def test_asked_but_refused_keeps_the_activation_and_says_why() -> None:
    graph = Graph(9)
    y = graph.node("Relu", [graph.conv("x", 3, 4, (3, 3), pads=[1] * 4, bias=False)])
    y = graph.conv(y, 4, 4, (3, 3), pads=[1] * 4)
    before = imported(graph.model([1, 3, "h", "w"], graph.node("Tanh", [y])))
    after, record = merged(before, None, remove_blocks=(0,))
    assert_equal(after, before)
    (reason,) = reasons(record)
    assert "its size is open" in reason


def test_moved_padding_is_told() -> None:
    graph = Graph(9)
    y = graph.node("Relu", [graph.conv("x", 3, 4, (3, 3), pads=[1] * 4)], "first_activation")
    y = graph.conv(y, 4, 4, (3, 3), pads=[1] * 4)
    model = graph.model([1, 3, 9, 9], graph.node("Tanh", [y]))
    after, record = merged(imported(model), None, remove_blocks=(0,), border="move_padding")
    merge = the_merge(record)
    assert merge.border == "padding_moved"
    assert merge.geometry.padding == (2, 2, 2, 2)
    x = input_for(model)
    plain = without_activations(graph).model([1, 3, 9, 9], graph.nodes[-1].output[0])
    got, want = run(after, [x])[0], by_onnxruntime(plain, x)[0]
    np.testing.assert_allclose(got[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1], atol=1e-5)
    assert np.abs(got - want).max() > 1e-3
