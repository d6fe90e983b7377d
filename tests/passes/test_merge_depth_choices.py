"""Which merges are made: by their time, by a number of activations, by a latency, as decided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from merge_chains import (
    HOST,
    Graph,
    assert_equal_outputs,
    convolutions,
    imported,
    inverted_residual,
    merged,
    reasons,
    the_merge,
)
from relax_modules import assert_equal, calls, names

from motet.passes.decisions import Kept
from motet.passes.merge_depth import MergeRecord, merge_depth
from motet.passes.options import MergeDepthModel, MergeDepthOptions
from motet.runtime.errors import CompileError, SpecError


def test_an_exact_merge_runs_unasked_where_it_is_faster() -> None:
    graph = Graph(10)
    y = graph.conv(graph.conv("x", 16, 64, name="up"), 64, 8, name="down")
    model = graph.model([1, 16, 56, 56], graph.node("Relu", [y]))
    after, record = merged(imported(model))
    assert convolutions(after) == [(8, 16, 1, 1)]
    merge = the_merge(record)
    assert merge.is_exact
    assert merge.border == "exact"
    assert merge.seconds_before is not None
    assert merge.seconds_after is not None
    assert merge.seconds_after < merge.seconds_before
    assert (merge.macs_before, merge.macs_after) == (56 * 56 * 1536, 56 * 56 * 128)
    assert names(after["main"])[0] == ("up", "down")
    assert_equal_outputs(after, model)


def test_one_that_is_slower_does_not_and_says_so() -> None:
    graph = Graph(10)
    y = graph.conv(graph.conv("x", 64, 4), 4, 64)
    before = imported(graph.model([1, 64, 56, 56], graph.node("Relu", [y])))
    after, record = merged(before)
    assert_equal(after, before)
    assert reasons(record)[0].startswith("estimated ")


def test_a_number_of_activations() -> None:
    """One of three: the one whose removal saves the most."""
    graph = Graph(11)
    y = graph.node("Relu", [graph.conv("x", 8, 8, name="a")], "between_a_and_b")
    y = graph.node("Relu", [graph.conv(y, 8, 256, name="b")], "between_b_and_c")
    y = graph.node("Relu", [graph.conv(y, 256, 8, name="c")], "between_c_and_d")
    model = graph.model([1, 8, 32, 32], graph.node("Tanh", [graph.conv(y, 8, 8, name="d")]))
    _, record = merged(imported(model), remove_activations=1)
    merge = the_merge(record)
    assert [removed.nodes for removed in merge.removed] == [("between_b_and_c",)]


def test_a_latency() -> None:
    graph = Graph(11)
    y = graph.node("Relu", [graph.conv("x", 8, 256, name="a")])
    y = graph.conv(y, 256, 8, name="b")
    mod = imported(graph.model([1, 8, 32, 32], graph.node("Tanh", [y])))
    after, record = merged(mod, latency_budget_ms=100.0, exact=False)
    assert not record.decided.decisions.merges
    after, record = merged(mod, latency_budget_ms=0.05)
    assert the_merge(record).removed
    assert convolutions(after) == [(8, 8, 1, 1)]
    with pytest.raises(CompileError, match=r"latency_budget_ms: no merges bring the estimated"):
        merged(mod, latency_budget_ms=1e-6)


def test_a_budget_needs_a_target() -> None:
    with pytest.raises(SpecError, match="a budget needs a target"):
        merge_depth(MergeDepthOptions(remove_activations=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"remove_blocks": (3,)}, r"remove_blocks: model 'main' has 1 blocks"),
        ({"remove": ("nowhere",)}, r"remove: no activation between two convolutions comes from"),
        ({"models": {"other": MergeDepthModel()}}, r"models: no model 'other'; it is one of main"),
        (
            {"models": {"main": MergeDepthModel(remove=("nowhere",))}},
            r"models\.main\.remove: no activation",
        ),
    ],
)
def test_what_is_not_there_is_told(options: dict[str, Any], message: str) -> None:
    graph = Graph(3)
    y = inverted_residual(graph, "x", 4, 6)
    mod = imported(graph.model([1, 4, 8, 8], graph.node("Relu", [y])))
    with pytest.raises(SpecError, match=message):
        merged(mod, HOST, **options)


def test_options_of_a_model_stand_for_those_of_all() -> None:
    graph = Graph(3)
    y = inverted_residual(graph, "x", 4, 6)
    mod = imported(graph.model([1, 4, 8, 8], graph.node("Relu", [y])))
    models = {"main": MergeDepthModel()}
    after, _ = merged(mod, None, remove_blocks=(0,), models=models)
    assert_equal(after, mod)


def test_decisions_are_made_again_with_their_weights() -> None:
    graph = Graph(3)
    y = inverted_residual(graph, "x", 4, 6)
    mod = imported(graph.model([1, 4, 8, 8], graph.node("Relu", [y])))
    after, record = merged(mod, None, remove_blocks=(0,), activation="relu6")
    again = merge_depth(MergeDepthOptions(), None, MergeRecord(), given=record.decided)(mod)
    assert_equal(again, after)
    key = the_merge(record).weight
    record.weights[key] = record.weights[key] * 2
    edited = merge_depth(MergeDepthOptions(), None, MergeRecord(), given=record.decided)(mod)
    weights = calls(edited["main"])[0].args[1].value.numpy()
    np.testing.assert_array_equal(weights, record.weights[key])


def test_decisions_of_another_model_are_refused() -> None:
    graph = Graph(3)
    y = inverted_residual(graph, "x", 4, 6)
    mod = imported(graph.model([1, 4, 8, 8], graph.node("Relu", [y])))
    _, record = merged(mod, None, remove_blocks=(0,))
    other = Graph(3)
    y = other.conv(other.conv("x", 4, 4, name="here"), 4, 4, name="there")
    mod = imported(other.model([1, 4, 8, 8], y))
    with pytest.raises(SpecError, match="has no convolutions 'expand', 'depthwise', 'project'"):
        merge_depth(MergeDepthOptions(), None, MergeRecord(), given=record.decided)(mod)


def test_the_summary_counts() -> None:
    graph = Graph(3)
    y = inverted_residual(graph, "x", 4, 6)
    mod = imported(graph.model([1, 4, 8, 8], graph.node("Relu", [y])))
    _, record = merged(mod, None)
    assert record.summary == "nothing merged, 2 pairs kept: an activation stands between"
    _, record = merged(mod, None, remove_blocks=(0,))
    assert record.summary == "3 convolutions -> 1, 2 activations removed"
    assert isinstance(record.decided.decisions.kept[0], Kept)
