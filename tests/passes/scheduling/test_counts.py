from __future__ import annotations

import peer_blocks as peers
import pytest
import random_graphs as rg
from hypothesis import given, settings

from motet.passes.scheduling.counts import Counts, count
from motet.passes.scheduling.endings import UNPRUNED, Pruning
from motet.passes.scheduling.graph import OperatorGraph

# Recounted from the papers' definitions over all endings, the pruned ones with r = 3, s = 8.
BLOCKS = {
    "fire with bypass": (peers.FIRE_BYPASS, Counts(6, 3, 12, 60, 152)),
    "fire": (peers.FIRE_IDENTITY, Counts(5, 2, 6, 20, 24)),
    "inception A": (peers.INCEPTION_A, Counts(9, 4, 72, 1080, 69032)),
    "inception B": (peers.INCEPTION_B, Counts(6, 3, 16, 90, 264)),
    "inception C": (peers.INCEPTION_C, Counts(12, 4, 144, 3780, 5243136)),
    "inception E": (peers.INCEPTION_E, Counts(11, 6, 180, 5040, 4410136)),
    "nasnet first": (peers.nasnet_first(), Counts(18, 8, 2200, 335331, 8839301008800)),
    "nasnet reduction": (peers.NASNET_REDUCTION, Counts(19, 7, 1312, 171142, 7090682506752)),
    "ws-16-2": (peers.randwire("ws-16-2"), Counts(17, 6, 235, 13398, 7873469440)),
    "ws-32-3": (
        peers.randwire("ws-32-3"),
        Counts(33, 8, 4276, 2980514, 323445629346909384245248),
    ),
    "ws-32-4": (
        peers.randwire("ws-32-4"),
        Counts(33, 8, 5420, 3560808, 118464662394143512150016),
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_unpruned_counts_are_those_of_the_definition(name: str) -> None:
    block, expected = BLOCKS[name]
    assert count(peers.graph_of(block)) == expected


@pytest.mark.parametrize(
    ("block", "expected"),
    [(peers.FIRE_BYPASS, (51, 138)), (peers.INCEPTION_E, (4631, 4226508))],
    ids=["fire with bypass", "inception E"],
)
def test_pruned_counts(block: peers.Edges, expected: tuple[int, int]) -> None:
    found = count(peers.graph_of(block), Pruning(r=3, s=8))
    assert (found.transitions, found.schedules) == expected


@settings(max_examples=80, deadline=None)
@given(rg.graphs(most=6))
def test_both_ways_of_counting_agree(graph: OperatorGraph) -> None:
    """Bounds that nothing exceeds leave all endings, found one by one instead of by masks."""
    assert count(graph, Pruning(r=6, s=6)) == count(graph)


def test_a_graph_of_more_than_64_operators() -> None:
    chain = peers.graph_of({f"c{n}": f"c{n - 1}" if n else "" for n in range(70)})
    assert count(chain) == Counts(70, 1, 70, 70 * 71 // 2, 2**69)


def test_a_graph_of_nothing() -> None:
    assert count(peers.graph_of({})) == Counts(0, 0, 0, 0, 1)
    assert count(peers.graph_of({}), Pruning()) == Counts(0, 0, 0, 0, 1)


def test_equal_chains_reach_the_bound_of_the_paper() -> None:
    """Its transitions include the empty ending of every state, and of none."""
    found = count(peers.graph_of({"a": "", "b": "a", "c": "b", "d": "", "e": "d", "f": "e"}))
    assert found.transitions + found.states + 1 == found.transition_bound == 100


class _EnoughError(Exception):
    pass


@pytest.mark.parametrize("pruning", [UNPRUNED, Pruning()])
def test_a_count_may_be_stopped(pruning: Pruning) -> None:
    seen: list[int] = []

    def stop(states: int) -> None:
        seen.append(states)
        if states == 5:
            raise _EnoughError

    with pytest.raises(_EnoughError):
        count(peers.graph_of(peers.INCEPTION_E), pruning, stop)
    assert seen == [1, 2, 3, 4, 5]
