"""The dynamic programme of IOS over one block (Ding et al., MLSys 2021, arXiv 2011.01302).

    cost[{}] = 0,  cost[S] = min over endings S' of S of cost[S - S'] + seconds(S')

Solved from the full set downwards: ``behind[S]`` is the least seconds of stages that run
all operators but S, last; it is final when all larger states are done, and behind[{}]
is cost[all]. So only states that pruning leaves reachable are visited, each transition
once. What cannot lead to less than is known is dropped, and a stage that cannot is not
asked for: costs are not negative, and may come with floors (``FlooredStageCost``).
Of the states that exchanges of equal branches make of each other one is solved (``twins``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import fsum

from motet.passes.scheduling.allowance import Allowance
from motet.passes.scheduling.endings import Pruning, endings_of
from motet.passes.scheduling.graph import OperatorGraph, bits
from motet.passes.scheduling.stage_costs import StagePrices
from motet.passes.scheduling.twins import NO_TWINS, Twins
from motet.runtime.schedule import FoundBy

Stages = tuple[int, ...]
"""Masks of a block's operators, in the order in which the stages run."""

Transition = tuple[int, int]
"""A state, and its ending that is the last stage."""


@dataclass(frozen=True)
class Found:
    """Stages of a block, what they cost, and how they were found."""

    stages: Stages
    seconds: float
    by: FoundBy


def found(stages: Stages, prices: Callable[[int], float], by: FoundBy) -> Found:
    """``stages`` with their seconds."""
    return Found(stages, fsum(map(prices, stages)), by)


def sequential(graph: OperatorGraph) -> Stages:
    """Every operator a stage of its own."""
    return tuple(1 << bit for bit in range(len(graph)))


def greedy(graph: OperatorGraph) -> Stages:
    """In every stage all operators that are ready."""
    stages: list[int] = []
    waiting = graph.everything
    while waiting:
        ready = sum(1 << bit for bit in bits(waiting) if not graph.predecessors[bit] & waiting)
        stages.append(ready)
        waiting ^= ready
    return tuple(stages)


def optimal(
    prices: StagePrices,
    pruning: Pruning,
    bound: float,
    allowance: Allowance,
    progress: Callable[[int], None] = lambda _: None,
    twins: Twins = NO_TWINS,
) -> Stages | None:
    """The cheapest stages of the block of ``prices``; None when all cost ``bound`` or more.

    progress: called with the number of operators that the states at hand leave scheduled,
    from 0 to all. twins: the block's, to be made use of. Raises OutOfTimeError when ``allowance``
    is used up.
    """
    graph = prices.graph
    endings = endings_of(graph, pruning, twins, allowance.spend)
    known, total = prices.known, len(graph)
    levels: list[list[int]] = [[] for _ in range(total + 1)]
    levels[total].append(graph.everything)
    behind, after = {graph.everything: 0.0}, dict[int, Transition]()
    for size in range(total, 0, -1):
        for state in levels[size]:
            allowance.spend(1)
            here = behind[state]
            if here + prices.floor(state) >= bound:
                continue
            for mask in endings(state):
                rest = twins.first(state ^ mask) if twins else state ^ mask
                best = behind.get(rest, bound)
                cost = known.get(mask)
                if cost is None:
                    if here + prices.floor(mask) >= best:
                        continue
                    cost = prices(mask)
                seconds = here + cost
                if seconds < best:
                    if rest not in behind:
                        levels[size - mask.bit_count()].append(rest)
                    behind[rest] = seconds
                    after[rest] = state, mask
        progress(total - size + 1)
    return _stages(graph, twins, after) if 0 in behind else None


def _stages(graph: OperatorGraph, twins: Twins, after: dict[int, Transition]) -> Stages:
    """The stages on the way from nothing left to everything left.

    A state that stands for others has its branches in other places: found from the full set
    downwards, every stage is moved back to where its operators are.
    """
    way: list[Transition] = []
    state = 0
    while state != graph.everything:
        way.append(after[state])
        state = after[state][0]
    stages: list[int] = []
    places = list(range(len(graph)))
    for state, mask in reversed(way):
        stages.append(sum(1 << places[bit] for bit in bits(mask)))
        if twins:
            moves = twins.moves(state ^ mask, len(graph))
            back = {new: old for old, new in enumerate(moves)}
            places = [places[back[bit]] for bit in range(len(graph))]
    return tuple(reversed(stages))
