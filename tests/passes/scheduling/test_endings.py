from __future__ import annotations

import random_graphs as rg
from hypothesis import given, settings

from motet.passes.scheduling.endings import (
    Pruning,
    connected_groups,
    endings_of,
    states_of,
)
from motet.passes.scheduling.graph import OperatorGraph


def _plain_endings(graph: OperatorGraph, state: rg.Names, pruning: Pruning) -> set[rg.Names]:
    """The definition, subset by subset."""
    edges = set(graph.edges)
    found = set()
    for subset in rg.subsets(state):
        groups = rg.components(subset, edges)
        if (
            not any(u in subset and v in state - subset for u, v in edges)
            and len(groups) <= (pruning.s or len(graph))
            and max(map(len, groups)) <= (pruning.r or len(graph))
        ):
            found.add(subset)
    return found


@settings(max_examples=80, deadline=None)
@given(rg.graphs(most=6), rg.prunings)
def test_endings_are_those_of_the_definition(graph: OperatorGraph, pruning: Pruning) -> None:
    endings = endings_of(graph, pruning)
    for state in states_of(graph):
        found = [frozenset(graph.names_of(mask)) for mask in endings(state)]
        assert len(found) == len(set(found))
        assert set(found) == _plain_endings(graph, frozenset(graph.names_of(state)), pruning)


@settings(max_examples=80, deadline=None)
@given(rg.graphs(most=6))
def test_states_are_what_no_edge_enters(graph: OperatorGraph) -> None:
    edges = set(graph.edges)
    closed = {
        subset
        for subset in rg.subsets(frozenset(graph.names))
        if not any(v in subset and u not in subset for u, v in edges)
    }
    found = [frozenset(graph.names_of(state)) for state in states_of(graph)]
    assert len(found) == len(closed)
    assert set(found) == closed


@settings(max_examples=80, deadline=None)
@given(rg.graphs(most=6))
def test_connected_groups(graph: OperatorGraph) -> None:
    edges = set(graph.edges)
    connected = {
        subset
        for subset in rg.subsets(frozenset(graph.names))
        if len(subset) <= 3 and len(rg.components(subset, edges)) == 1
    }
    found = [frozenset(graph.names_of(group)) for group in connected_groups(graph, 3)]
    assert len(found) == len(connected)
    assert set(found) == connected
