"""Blocks without names: equal ones get equal forms, so that each is solved once.

A form lists the labels of a block's operators in an order that the names do not decide:
by depth, then by a colour that is refined from labels and neighbours (Weisfeiler and
Leman 1968), then as listed. Equal forms are isomorphic blocks; a rare pair of isomorphic
blocks, whose operators of one colour are listed in different orders, may get two forms
and is solved twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from motet.passes.scheduling.graph import OperatorGraph, bits
from motet.passes.scheduling.stage_costs import Keys, Label
from motet.passes.scheduling.twins import Twins, twins_of


@dataclass(frozen=True)
class NamedBlock:
    """A block whose operators are renumbered in canonical order, and their labels.

    Two blocks with equal ``form`` have the same stages, mask for mask.
    """

    graph: OperatorGraph
    labels: tuple[Label, ...]

    @property
    def form(self) -> Hashable:
        """All but the names."""
        return self.labels, self.graph.predecessors

    @cached_property
    def twins(self) -> Twins:
        """The branches that may change places."""
        return twins_of(self.graph, self.labels)

    def part(self, mask: int) -> NamedBlock:
        """The operators of ``mask``, as a block."""
        labels = (
            replace(self.labels[bit], kept=True)
            if self.graph.successors[bit] & ~mask
            else self.labels[bit]
            for bit in bits(mask)
        )
        return NamedBlock(self.graph.induced(mask), tuple(labels))


class Labels:
    """Numbers the keys of a network's operators in the order in which they are met."""

    def __init__(self, network: OperatorGraph, keys: Keys | None) -> None:
        """``keys`` has every operator of ``network``; None: no two cost the same."""
        self._readers = dict(zip(network.names, network.successors, strict=True))
        self._keys = keys
        self._costs: dict[Hashable, int] = {}

    def block(self, graph: OperatorGraph) -> NamedBlock:
        """A block of the network in its canonical order."""
        merges = [self._keys[name].merge if self._keys else None for name in graph.names]
        costs = [self._cost(name) for name in graph.names]
        kept = [
            not after or after.bit_count() < self._readers[name].bit_count()
            for name, after in zip(graph.names, graph.successors, strict=True)
        ]
        sizes = [0 if merge is None else merges.count(merge) for merge in merges]
        order = _canonical_order(graph, list(zip(costs, sizes, kept, strict=True)))
        classes: dict[Hashable, int] = {None: -1}
        labels = []
        for old in order:
            classes.setdefault(merges[old], len(classes) - 1)
            labels.append(Label(costs[old], classes[merges[old]], kept[old]))
        return NamedBlock(_reordered(graph, order), tuple(labels))

    def _cost(self, name: str) -> int:
        key = self._keys[name].cost if self._keys else name
        return self._costs.setdefault(key, len(self._costs))


def _reordered(graph: OperatorGraph, order: list[int]) -> OperatorGraph:
    return OperatorGraph.from_edges((graph.names[old] for old in order), graph.edges)


def _canonical_order(graph: OperatorGraph, labels: list[tuple[int, int, bool]]) -> list[int]:
    """Old numbers, by depth, colour, and place: again a topological order."""
    depths = [0] * len(graph)
    for v, before in enumerate(graph.predecessors):
        depths[v] = max((depths[u] + 1 for u in bits(before)), default=0)
    colours = _ranks(list(zip(depths, labels, strict=True)))
    while True:
        refined = _ranks([(colours[v], *_around(graph, colours, v)) for v in range(len(graph))])
        if max(refined, default=0) == max(colours, default=0):
            return sorted(range(len(graph)), key=lambda v: (colours[v], v))
        colours = refined


def _around(graph: OperatorGraph, colours: list[int], v: int) -> tuple[tuple[int, ...], ...]:
    before = sorted(colours[u] for u in bits(graph.predecessors[v]))
    after = sorted(colours[w] for w in bits(graph.successors[v]))
    return tuple(before), tuple(after)


def _ranks(values: Sequence[tuple[Any, ...]]) -> list[int]:
    """The place of each value among the distinct ones, sorted."""
    rank = {value: index for index, value in enumerate(sorted(set(values)))}
    return [rank[value] for value in values]
