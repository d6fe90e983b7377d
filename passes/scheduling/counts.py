"""How many schedules a block has: the size of the problem that IOS solves.

Equal to a recount of IOS (arXiv 2011.01302, table 1) over *all* endings that the paper
defines; its public code leaves out endings whose groups have several sources.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from motet.passes.scheduling.endings import UNPRUNED, Pruning, states_of, walk
from motet.passes.scheduling.graph import OperatorGraph, bits


@dataclass(frozen=True)
class Counts:
    """The size of a block's scheduling problem.

    operators: n. width: d, the most operators of which none waits for another.
    states: non-empty sets of unscheduled operators that a schedule can pass through.
    transitions: pairs of a state and an ending of it. schedules: ways from all operators
    to none, a stage at a time.
    """

    operators: int
    width: int
    states: int
    transitions: int
    schedules: int

    @property
    def transition_bound(self) -> float:
        """The paper's bound C(n/d + 2, 2)^d on the transitions (section 4.2)."""
        if not self.operators:
            return 0.0
        chain = self.operators / self.width
        return float(((chain + 2) * (chain + 1) / 2) ** self.width)


OnState = Callable[[int], None]
"""Told how many states are done; raises to stop the count."""


def count(
    graph: OperatorGraph,
    pruning: Pruning = UNPRUNED,
    on_state: Callable[[int], None] = lambda states: None,
) -> Counts:
    """Count states, transitions and schedules of ``graph``; all endings unless pruned.

    Visits every transition: for one block, not for a whole network. ``on_state`` is told the
    states so far; it may raise to stop the count.
    """
    counted = _all_endings if pruning == UNPRUNED else _pruned
    return Counts(len(graph), width(graph), *counted(graph, pruning, on_state))


def _all_endings(
    graph: OperatorGraph, _: Pruning, on_state: Callable[[int], None]
) -> tuple[int, int, int]:
    """The endings of S are S - T for all smaller states T: found by comparing all masks."""
    states = [0, *sorted(states_of(graph), key=int.bit_count)]
    masks = np.array(states, dtype=np.uint64 if len(graph) <= 64 else object)
    ways = np.ones(len(states), dtype=object)  # from a state to none; larger than any word
    transitions = 0
    for index in range(1, len(states)):
        on_state(index)
        within = np.flatnonzero(masks[:index] & masks[index] == masks[:index])
        transitions += len(within)
        ways[index] = ways[within].sum()
    return len(states) - 1, transitions, int(ways[-1])


def _pruned(
    graph: OperatorGraph, pruning: Pruning, on_state: Callable[[int], None]
) -> tuple[int, int, int]:
    """Ways from all operators to each state, added up along its endings."""
    ways = {graph.everything: 1}
    states = transitions = 0
    for state, endings in walk(graph, pruning):
        states += 1
        on_state(states)
        transitions += len(endings)
        here = ways.pop(state)
        for mask in endings:
            rest = state ^ mask
            ways[rest] = ways.get(rest, 0) + here
    return states, transitions, ways[0]


def width(graph: OperatorGraph) -> int:
    """The size of a largest antichain.

    By Dilworth's theorem that is the least number of chains that cover all operators: n less
    a largest matching between operators and their descendants (Fulkerson 1956).
    """
    after_of = [0] * len(graph)
    for v, above in enumerate(graph.ancestors()):
        for u in bits(above):
            after_of[u] |= 1 << v
    partner: dict[int, int] = {}
    return len(graph) - sum(_augment(u, after_of, partner, set()) for u in range(len(graph)))


def _augment(u: int, after_of: list[int], partner: dict[int, int], seen: set[int]) -> bool:
    """Match ``u`` along an augmenting path (Kuhn's algorithm)."""
    for v in bits(after_of[u]):
        if v in seen:
            continue
        seen.add(v)
        if v not in partner or _augment(partner[v], after_of, partner, seen):
            partner[v] = u
            return True
    return False
