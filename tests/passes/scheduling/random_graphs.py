"""Random small graphs and stage costs, and a search by plain sets that owes nothing to masks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import sqrt
from zlib import crc32

from hypothesis import strategies as st

from motet.passes.scheduling.endings import Pruning
from motet.passes.scheduling.graph import OperatorGraph
from motet.passes.scheduling.stage_costs import Groups, Keys, OperatorKey

Names = frozenset[str]


@st.composite
def graphs(draw: st.DrawFn, most: int = 7) -> OperatorGraph:
    """Any directed acyclic graph, its operators listed in an order that need not be topological."""
    size = draw(st.integers(1, most))
    pairs = list(combinations(range(size), 2))
    chosen = draw(st.integers(0, (1 << len(pairs)) - 1))
    edges = [(f"op{u}", f"op{v}") for index, (u, v) in enumerate(pairs) if chosen >> index & 1]
    names = draw(st.permutations([f"op{index}" for index in range(size)]))
    return OperatorGraph.from_edges(names, edges)


prunings = st.builds(Pruning, st.none() | st.integers(1, 6), st.none() | st.integers(1, 4))


@st.composite
def keys_for(draw: st.DrawFn, graph: OperatorGraph) -> Keys:
    """A few kinds of operators; some may be merged."""
    kinds = st.integers(0, 3)
    merges = st.none() | st.integers(0, 1)
    return {name: OperatorKey(draw(kinds), draw(merges)) for name in graph.names}


class RandomCost:
    """Any cost at all: what a stage costs says nothing of what a part of it costs."""

    def __init__(self, seed: int, keys: Keys | None) -> None:
        self.seed = seed
        self.keys = keys

    def _kind(self, name: str) -> object:
        return self.keys[name].cost if self.keys else name

    def _kinds(self, names: tuple[str, ...]) -> list[str]:
        return sorted(str(self._kind(name)) for name in names)

    def _chance(self, *what: object) -> float:
        """Between 0.1 and 1, settled by ``what``."""
        return 0.1 + 0.9 * crc32(repr((self.seed, what)).encode()) / 2**32

    def concurrent(self, groups: Groups) -> float:
        return self._chance(sorted(map(self._kinds, groups))) * sqrt(len(groups))

    def merged(self, operators: tuple[str, ...]) -> float | None:
        assert len(operators) > 1
        kinds = self._kinds(operators)
        return None if self._chance("impossible", kinds) < 0.4 else self._chance("merged", kinds)


class MonotoneCost(RandomCost):
    """A machine with a bound on work: more groups never take less time."""

    def _work(self, name: str) -> float:
        return self._chance("work", self._kind(name))

    def concurrent(self, groups: Groups) -> float:
        work = sorted(sum(sorted(map(self._work, group))) for group in groups)
        return max(work[-1], 0.6 * sum(work)) + 0.05 * len(groups)

    def floor(self, operator: str) -> float:
        return 0.6 * self._work(operator)

    def merged(self, operators: tuple[str, ...]) -> float | None:
        return 0.7 * sum(sorted(map(self._work, operators)))


def costs(keys: Keys | None) -> st.SearchStrategy[RandomCost]:
    seeds = st.integers(0, 1 << 30)
    known = st.just(keys)
    return st.builds(RandomCost, seeds, known) | st.builds(MonotoneCost, seeds, known)


def components(names: Names, edges: set[tuple[str, str]]) -> set[Names]:
    """Weakly connected components by joining sets along edges."""
    parts = {name: frozenset([name]) for name in names}
    for u, v in edges:
        if u in names and v in names and parts[u] != parts[v]:
            joined = parts[u] | parts[v]
            parts |= dict.fromkeys(joined, joined)
    return set(parts.values())


def subsets(names: Names) -> Iterator[Names]:
    """All non-empty subsets."""
    for size in range(1, len(names) + 1):
        yield from map(frozenset, combinations(sorted(names), size))


class Exhaustive:
    """The least cost of any schedule, first stage first."""

    def __init__(
        self, graph: OperatorGraph, cost: RandomCost, keys: Keys | None, pruning: Pruning
    ) -> None:
        self.order = graph.names
        self.edges = set(graph.edges)
        self.cost = cost
        self.keys = keys
        self.pruning = pruning
        self.known: dict[Names, float] = {frozenset(): 0.0}

    def least(self, waiting: Names) -> float:
        if waiting not in self.known:
            self.known[waiting] = min(
                self._stage(stage) + self.least(waiting - stage)
                for stage in subsets(waiting)
                if self._can_start(stage, waiting)
            )
        return self.known[waiting]

    def _can_start(self, stage: Names, waiting: Names) -> bool:
        if any(v in stage and u in waiting - stage for u, v in self.edges):
            return False
        groups = components(stage, self.edges)
        r, s = self.pruning.r, self.pruning.s
        return (s is None or len(groups) <= s) and (r is None or max(map(len, groups)) <= r)

    def _stage(self, stage: Names) -> float:
        groups = [tuple(sorted(group)) for group in components(stage, self.edges)]
        best = self.cost.concurrent(tuple(groups))
        merges = {self.keys[name].merge for name in stage} if self.keys else {None}
        if len(groups) == len(stage) > 1 and merges != {None} and len(merges) == 1:
            merged = self.cost.merged(tuple(sorted(stage)))
            best = best if merged is None else min(best, merged)
        return best
