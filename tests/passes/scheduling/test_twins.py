from __future__ import annotations

from collections.abc import Iterator
from math import inf

import peer_blocks as peers
import pytest
import random_graphs as rg
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.passes.scheduling import endings
from motet.passes.scheduling.blocks import cut_blocks
from motet.passes.scheduling.endings import Pruning, endings_of, states_of
from motet.passes.scheduling.equal_blocks import Labels, NamedBlock
from motet.passes.scheduling.graph import OperatorGraph
from motet.passes.scheduling.inter_operator import check_fits, greedy, schedule, sequential
from motet.passes.scheduling.search import Search
from motet.passes.scheduling.stage_costs import Groups, Keys, OperatorKey
from motet.passes.scheduling.twins import NO_TWINS


@st.composite
def networks(draw: st.DrawFn, most: int = 8) -> tuple[OperatorGraph, Keys]:
    """A random graph, parts of which were written several times, one within another maybe."""
    base = draw(rg.graphs(most=4))
    edges = set(base.edges)
    kinds = {name: draw(st.integers(0, 1)) for name in base.names}
    merges = {name: draw(st.none() | st.just("m")) for name in base.names}
    for _ in range(draw(st.integers(1, 2))):
        names = sorted(kinds)
        part = draw(st.sets(st.sampled_from(names), min_size=1, max_size=3))
        apart = draw(st.booleans())  # whether what may be merged is so in each copy apart
        for copy in range(draw(st.integers(1, 4))):
            if len(kinds) + len(part) > most:
                break
            new = {name: f"{name}.{copy}" for name in part}
            if any(name in kinds for name in new.values()):
                continue
            edges |= {(new.get(u, u), new.get(v, v)) for u, v in edges if u in part or v in part}
            for name in part:
                merge = merges[name]
                kinds[new[name]] = kinds[name]
                merges[new[name]] = f"{merge}{copy}" if merge and apart else merge
    graph = OperatorGraph.from_edges(draw(st.permutations(sorted(kinds))), edges)
    return graph, {name: OperatorKey(kinds[name], merges[name]) for name in graph.names}


@settings(max_examples=400, deadline=None)
@given(st.data(), networks())
def test_no_schedule_of_twins_is_cheaper(
    many: int, data: st.DataObject, network: tuple[OperatorGraph, Keys]
) -> None:
    graph, keys = network
    cost, pruning = data.draw(rg.costs(keys)), data.draw(rg.prunings)
    found = schedule(graph, cost, keys, Search(pruning, steps=None))
    check_fits(found, graph)
    per_block = 0.0
    for block in cut_blocks(graph):
        least = rg.Exhaustive(block, cost, keys, pruning).least(frozenset(block.names))
        rules = [rule(block, cost, keys).seconds for rule in (sequential, greedy)]
        per_block += min(least, *rules)
    assert found.seconds == pytest.approx(min(per_block, greedy(graph, cost, keys).seconds))


@pytest.fixture(scope="module", params=[1, 24])
def many(request: pytest.FixtureRequest) -> Iterator[int]:
    """From how many exchanges on endings are put together without equal ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endings, "_MANY_EXCHANGES", request.param)
        yield request.param


@settings(max_examples=200, deadline=None)
@given(networks(), rg.prunings)
def test_an_ending_of_each_kind_is_listed(
    many: int, network: tuple[OperatorGraph, Keys], pruning: Pruning
) -> None:
    """Exchanges lead from all endings to those that are listed; and from none to two, if asked."""
    block = Labels(*network).block(network[0])
    all_of, listed = (endings_of(block.graph, pruning, t) for t in (NO_TWINS, block.twins))
    for state in states_of(block.graph):
        alike = block.twins.of_state(state)
        found = [alike.first(mask) for mask in listed(state)]
        assert len(found) == len(set(found)) or many > 1
        assert set(found) == {alike.first(mask) for mask in all_of(state)}


@settings(max_examples=200, deadline=None)
@given(networks())
def test_exchanges_are_automorphisms(network: tuple[OperatorGraph, Keys]) -> None:
    block = Labels(*network).block(network[0])
    graph, pairs = block.graph, _pairs(block.graph)
    for state in states_of(graph):
        places = block.twins.moves(state, len(graph))
        assert sorted(places) == list(range(len(graph)))
        assert {(places[u], places[v]) for u, v in pairs} == pairs
        moved = sum(1 << places[bit] for bit in range(len(graph)) if state >> bit & 1)
        assert moved == block.twins.first(state)
        assert [block.labels[place].cost for place in places] == [a.cost for a in block.labels]


def _pairs(graph: OperatorGraph) -> set[tuple[int, int]]:
    place = {name: bit for bit, name in enumerate(graph.names)}
    return {(place[u], place[v]) for u, v in graph.edges}


def _block(reads: peers.Edges) -> NamedBlock:
    graph = peers.graph_of(reads)
    return Labels(graph, _keys(graph)).block(graph)


def _keys(graph: OperatorGraph) -> Keys:
    """Operators are of the kind that their names begin with."""
    return {name: OperatorKey(name.rstrip("0123456789.")) for name in graph.names}


def _fan(branches: int, chain: int = 1) -> peers.Edges:
    reads = {
        f"{'abcdef'[place]}{n}": f"{'abcdef'[place - 1]}{n}" if place else "start"
        for n in range(branches)
        for place in range(chain)
    }
    last = "abcdef"[chain - 1]
    return {"start": "", **reads, "join": " ".join(f"{last}{n}" for n in range(branches))}


@pytest.mark.parametrize(
    ("reads", "states"),
    [
        (_fan(30), 30 + 3),  # none to all of 30, without join, without start
        (_fan(6, chain=2), 28 + 2),  # multisets of 6 of 3 states of a chain, with join, start only
    ],
)
def test_equal_branches_count_once(reads: peers.Edges, states: int) -> None:
    block = _block(reads)
    assert len(states_of(block.graph, twins=block.twins)) == states - 1


def test_branches_within_branches() -> None:
    """Two cells, each of three equal operators and a join."""
    reads: peers.Edges = {"start": ""}
    for cell in "12":
        reads |= {f"a{cell}.{n}": "start" for n in range(3)}
        reads[f"join{cell}"] = " ".join(f"a{cell}.{n}" for n in range(3))
    reads["sum"] = "join1 join2"
    block = _block(reads)
    assert sorted(len(kind.each) for kind in block.twins.kinds) == [2, 3, 3]
    # A cell has five states, two cells fifteen; with the sum, and start alone is one of them.
    assert len(states_of(block.graph, twins=block.twins)) == 15 + 1


def test_no_twins_where_operators_differ() -> None:
    graph = peers.graph_of({"a": "", "b": "", "join": "a b"})
    keys = {name: OperatorKey(name) for name in graph.names}
    assert not Labels(graph, keys).block(graph).twins
    other = peers.graph_of({"x": "", "a1": "", "a2": "x", "join": "a1 a2"})
    assert not Labels(other, _keys(other)).block(other).twins


class Pods:
    """Four operators fill the machine, which takes eight groups at most."""

    def concurrent(self, groups: Groups) -> float:
        if len(groups) > 8:
            return inf
        return max(max(map(len, groups)), sum(map(len, groups)) / 4) + 0.1

    def merged(self, operators: tuple[str, ...]) -> float | None:
        return None


def test_thirty_equal_operators_are_solved_whole() -> None:
    graph = peers.graph_of(_fan(30))
    found = schedule(graph, Pods(), _keys(graph), Search(steps=1 << 17))
    assert "budget" not in {block.found_by for block in found.blocks}
    check_fits(found, graph)
    assert found.seconds == pytest.approx(2 * 1.1 + 30 / 4 + 4 * 0.1)
