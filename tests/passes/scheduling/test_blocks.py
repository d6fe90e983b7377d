from __future__ import annotations

import peer_blocks as peers
import pytest
import random_graphs as rg
from hypothesis import given, settings

from motet.passes.scheduling.blocks import cut_blocks, separators
from motet.passes.scheduling.graph import OperatorGraph


def _all_paths_meet(graph: OperatorGraph, cut: str) -> bool:
    """Whether no path leads from a source to a sink once ``cut`` is removed."""
    edges = list(graph.edges)
    sources = set(graph.names) - {v for _, v in edges}
    sinks = set(graph.names) - {u for u, _ in edges}
    reached = sources - {cut}
    grown = True
    while grown:
        more = {v for u, v in edges if u in reached and v != cut} - reached
        reached |= more
        grown = bool(more)
    return not reached & sinks


@settings(max_examples=300, deadline=None)
@given(rg.graphs(most=8))
def test_separators_are_those_whose_removal_parts_the_graph(graph: OperatorGraph) -> None:
    expected = {name for name in graph.names if _all_paths_meet(graph, name)}
    found = [graph.names[v] for v in separators(graph)]
    assert len(found) == len(expected)
    assert set(found) == expected


@settings(max_examples=100, deadline=None)
@given(rg.graphs(most=9))
@pytest.mark.parametrize("state_limit", [1, 6, 1000])
def test_blocks_hold_everything_once_in_an_order_that_runs(
    state_limit: int, graph: OperatorGraph
) -> None:
    blocks = cut_blocks(graph, state_limit)
    names = [name for block in blocks for name in block.names]
    assert sorted(names) == sorted(graph.names)
    place = {name: index for index, block in enumerate(blocks) for name in block.names}
    inside = {edge for block in blocks for edge in block.edges}
    for before, after in graph.edges:
        assert place[before] < place[after] or (before, after) in inside


def _joined(*blocks: peers.Edges) -> OperatorGraph:
    """Each block reads the last operator of the one before."""
    reads: peers.Edges = {}
    end = ""
    for index, block in enumerate(blocks):
        for name, before in block.items():
            inner = " ".join(f"{index}.{one}" for one in before.split())
            reads[f"{index}.{name}"] = inner or end
            if name == "join" and block in (peers.FIRE_IDENTITY, peers.FIRE_BYPASS):
                reads[f"{index}.{name}"] += f" {end}" if block is peers.FIRE_IDENTITY else ""
        end = f"{index}.{list(block)[-1]}"
    return peers.graph_of(reads)


def _chain(length: int) -> peers.Edges:
    return {f"c{step}": f"c{step - 1}" if step else "" for step in range(length)}


def test_inception_falls_into_thirteen_blocks() -> None:
    modules = [
        *[peers.INCEPTION_A] * 3,
        peers.INCEPTION_B,
        *[peers.INCEPTION_C] * 4,
        peers.INCEPTION_D,
        *[peers.INCEPTION_E] * 2,
    ]
    blocks = cut_blocks(_joined(_chain(7), *modules, _chain(1)))
    assert [len(block) for block in blocks] == [7, 9, 9, 9, 6, 12, 12, 12, 12, 8, 11, 11, 1]


def test_a_fire_module_is_one_block_with_its_bypass() -> None:
    fires = [peers.FIRE_BYPASS, peers.FIRE_IDENTITY]
    blocks = cut_blocks(_joined(_chain(2), *fires, _chain(1), peers.FIRE_IDENTITY, _chain(2)))
    assert [len(block) for block in blocks] == [2, 6, 5, 1, 5, 2]


def test_randwire_falls_into_its_stages() -> None:
    stages = [peers.randwire(name) for name in ("ws-16-2", "ws-32-3", "ws-32-4", "ws-32-5")]
    network = _joined(_chain(1), *stages, _chain(2))
    joins = [name for name in network.names if name.endswith("join")]
    blocks = cut_blocks(OperatorGraph.from_edges(network.names, network.edges, joins))
    assert [len(block) for block in blocks] == [1, 17, 33, 33, 33, 2]


def test_a_join_of_one_belongs_to_the_block_it_follows() -> None:
    reads = {"a": "", "b": "", "end": "a b", "join": "end", "pool": "join", "more": "pool"}
    network = peers.graph_of(reads)
    marked = OperatorGraph.from_edges(network.names, network.edges, ["join"])
    assert [len(block) for block in cut_blocks(marked)] == [4, 2]
    assert [len(block) for block in cut_blocks(network)] == [3, 3]


def _cells(*cells: peers.Edges) -> OperatorGraph:
    """NasNet: the left of a cell reads the cell before the last, all else the last one."""
    reads: peers.Edges = {"stem": ""}
    previous = current = "stem"
    for index, cell in enumerate(cells):
        for name, before in cell.items():
            outer = current if name == "right" else previous
            reads[f"{index}.{name}"] = " ".join(f"{index}.{x}" for x in before.split()) or outer
        previous, current = current, f"{index}.join"
    return peers.graph_of(reads | {"pool": current})


def test_nasnet_falls_into_its_cells() -> None:
    first, normal, reduction = peers.nasnet_first(), peers.NASNET_NORMAL, peers.NASNET_REDUCTION
    blocks = cut_blocks(_cells(reduction, first, normal, normal, reduction, first, normal))
    assert [len(block) for block in blocks] == [1, 19, 18, 16, 16, 19, 18, 16, 1]
    assert [block.names[-1] for block in blocks[1:-1]] == [f"{cell}.join" for cell in range(7)]


def test_an_activation_of_a_cells_output_ends_the_cell() -> None:
    """Both cells behind it read the activation, so nothing leaves the cell at its join."""
    cell = {"left": "", "right": "", "a": "left", "b": "right", "join": "a b"}
    plain = _cells(*[cell] * 5)
    edges = []
    for before, after in plain.edges:
        if before.endswith(".join"):
            edges += [(before, f"{before}.relu"), (f"{before}.relu", after)]
        else:
            edges.append((before, after))
    names = {name for edge in edges for name in edge}
    blocks = cut_blocks(OperatorGraph.from_edges(names, edges), state_limit=20)
    assert [len(block) for block in blocks] == [1, 6, 6, 6, 5, 6, 2]
    assert [block.names[-1] for block in blocks[1:4]] == [f"{n}.join.relu" for n in range(3)]


def test_only_a_region_of_many_states_is_cut_at_inner_joins() -> None:
    cell = {"left": "", "right": "", "a": "left", "b": "right", "join": "a b"}
    graph = _cells(cell, cell, cell)
    assert [len(block) for block in cut_blocks(graph)] == [1, 15, 1]
    assert [len(block) for block in cut_blocks(graph, state_limit=20)] == [1, 5, 5, 5, 1]


def test_a_head_runs_beside_the_block_after_its_input() -> None:
    """An output that is read off a cell leaves no separator behind it; joins still cut."""
    body = _cells(*[peers.NASNET_NORMAL] * 4)
    edges = [*body.edges, ("1.join", "head0"), ("head0", "head1")]
    graph = OperatorGraph.from_edges([*body.names, "head0", "head1"], edges)
    blocks = cut_blocks(graph)
    assert [len(block) for block in blocks] == [1, 16, 16, 18, 16, 1]
    assert {"head0", "head1"} <= set(blocks[3].names)
