from __future__ import annotations

import subprocess
import sys

import pytest
import random_graphs as rg
from hypothesis import given, settings

from motet.passes.scheduling.counts import width
from motet.passes.scheduling.equal_blocks import Labels
from motet.passes.scheduling.graph import OperatorGraph
from motet.passes.scheduling.stage_costs import OperatorKey
from motet.runtime.errors import ModelError


@pytest.mark.parametrize(
    ("names", "edges", "message"),
    [
        (["a", "b"], [("a", "b"), ("b", "a")], "break the cycle"),
        (["a"], [("a", "a")], "'a' waits for its own result"),
        (["a", "a"], [], "'a' is listed twice"),
        (["a"], [("a", "image")], "'image', which is no operator"),
    ],
)
def test_what_is_no_graph(names: list[str], edges: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        OperatorGraph.from_edges(names, edges)


def test_names_are_kept_in_an_order_that_runs() -> None:
    graph = OperatorGraph.from_edges("cab", [("a", "c"), ("b", "c")])
    assert graph.names == ("a", "b", "c")
    assert list(graph.edges) == [("a", "c"), ("b", "c")]


@settings(max_examples=80, deadline=None)
@given(rg.graphs(most=7))
def test_width_is_the_largest_set_without_paths(graph: OperatorGraph) -> None:
    above = {
        name: set(graph.names_of(mask))
        for name, mask in zip(graph.names, graph.ancestors(), strict=True)
    }
    antichains = (
        len(subset)
        for subset in rg.subsets(frozenset(graph.names))
        if not any(above[name] & subset for name in subset)
    )
    assert width(graph) == max(antichains)


@settings(max_examples=80, deadline=None)
@given(rg.graphs(most=7))
def test_components(graph: OperatorGraph) -> None:
    found = {frozenset(graph.names_of(group)) for group in graph.components(graph.everything)}
    assert found == rg.components(frozenset(graph.names), set(graph.edges))


def test_a_block_has_one_form_whatever_its_names_and_order() -> None:
    def form(names: str, edges: list[tuple[str, str]]) -> object:
        kinds = {name: OperatorKey(name.lower() in "az") for name in names}
        graph = OperatorGraph.from_edges(names, edges)
        return Labels(graph, kinds).block(graph).form

    one = form("abcd", [("a", "b"), ("a", "c"), ("c", "d")])
    same = form("zyxw", [("z", "y"), ("y", "w"), ("z", "x")])
    other = form("abcd", [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])
    assert one == same
    assert one != other


def test_scheduling_needs_no_tvm() -> None:
    code = "import motet.passes.scheduling.inter_operator, sys; sys.exit('tvm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
