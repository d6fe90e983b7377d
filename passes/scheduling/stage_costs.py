"""What a stage costs: the interface that the scheduler asks, and what it remembers.

A cost is asked once for each multiset of groups that look alike, over all blocks of a
network: that is what makes costs affordable that are simulated or measured.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from motet.passes.scheduling.graph import OperatorGraph, bits
from motet.runtime.schedule import Kind

Groups = tuple[tuple[str, ...], ...]
"""Operator names: the groups of a stage, each in an order in which it may run."""


class StageCost(Protocol):
    """Seconds of a stage; at least 0, ``inf`` for a stage that cannot run.

    Two stages must cost the same when their groups pair off such that paired groups have
    operators with equal ``OperatorKey.cost``, joined alike, with results read outside
    the group by the same ones. A stage of one operator must be able to run.
    """

    def concurrent(self, groups: Groups) -> float:
        """The groups side by side, operators of a group one after another."""
        ...

    def merged(self, operators: tuple[str, ...]) -> float | None:
        """The operators, whose ``OperatorKey.merge`` are equal, as one; None: impossible."""
        ...


@runtime_checkable
class FlooredStageCost(StageCost, Protocol):
    """A cost that knows bounds from below, which spare most of its being asked.

    A machine with P pods, on which an operator takes t(p) seconds with p of them, has the
    floor min over p of p t(p) / P.
    """

    def floor(self, operator: str) -> float:
        """Seconds: no stage, merged or not, takes less than the sum over its operators."""
        ...


@dataclass(frozen=True)
class OperatorKey:
    """What the cost of an operator depends on.

    cost: equal for operators that cost the same in equal stages (kind, shapes, types).
    merge: equal for operators that may be merged into one: convolutions that read the
        same value with the same stride, groups = 1 and the same activation. None: never.
    """

    cost: Hashable
    merge: Hashable | None = None


Keys = Mapping[str, OperatorKey]


@dataclass(frozen=True)
class Label:
    """An operator inside its block, free of names: what makes blocks and groups equal.

    cost: number of its cost key. merge: number of its merge key in the block, or -1.
    kept: whether its result is read outside the block, or by nobody (an output).
    """

    cost: int
    merge: int
    kept: bool


@dataclass
class CostMemory:
    """Costs of stages already asked, shared by the blocks of a network.

    groups: numbers of the signatures of groups. concurrent, merged: seconds by the sorted
    numbers of a stage's groups, and of its operators' cost keys.
    """

    ask: StageCost
    groups: dict[Hashable, int] = field(default_factory=dict)
    concurrent: dict[tuple[int, ...], float] = field(default_factory=dict)
    merged: dict[tuple[int, ...], float | None] = field(default_factory=dict)


class StagePrices:
    """Seconds of the stages of one block, by mask."""

    def __init__(
        self,
        graph: OperatorGraph,
        labels: tuple[Label, ...],
        memory: CostMemory,
        before_asking: Callable[[], None] = lambda: None,
    ) -> None:
        self.graph = graph
        self._labels = labels
        self._memory = memory
        self._before_asking = before_asking
        self._mergeable = _merge_classes(labels)
        self._groups: dict[int, tuple[int, ...]] = {0: ()}
        self._group_names: dict[int, tuple[str, ...]] = {}
        self._group_numbers: dict[int, int] = {}
        self.known: dict[int, float] = {}
        self._floors = _floors(graph, memory.ask)
        self._floors_known: dict[int, float] = {}

    def __call__(self, mask: int) -> float:
        """Seconds of the stage ``mask``: side by side or merged, whichever is less."""
        seconds = self.known.get(mask)
        if seconds is None:
            seconds = self.known[mask] = self.price(mask)[0]
        return seconds

    def price(self, mask: int) -> tuple[float, Kind]:
        """Seconds of the stage, and how it runs."""
        concurrent = self._concurrent(mask)
        merged = self._merged(mask) if self._mergeable else None
        if merged is not None and merged < concurrent:
            return merged, "merged"
        return concurrent, "concurrent"

    def floor(self, mask: int) -> float:
        """Seconds that the stages of these operators take at least, together or apart."""
        seconds = self._floors_known.get(mask)
        if seconds is None:
            seconds = sum(self._floors[bit] for bit in bits(mask)) if self._floors else 0.0
            self._floors_known[mask] = seconds
        return seconds

    def groups_of(self, mask: int) -> Groups:
        """The names of the stage's groups."""
        return tuple(map(self._names, self._groups_in(mask)))

    def _concurrent(self, mask: int) -> float:
        key = tuple(sorted(map(self._number, self._groups_in(mask))))
        known = self._memory.concurrent
        if key not in known:
            self._before_asking()
            groups = self.groups_of(mask)
            known[key] = _checked(self._memory.ask.concurrent(groups), groups)
        return known[key]

    def _merged(self, mask: int) -> float | None:
        """Only for several operators of one merge key, of which none reads another."""
        alone = len(self._groups_in(mask)) == mask.bit_count() > 1
        if not alone or not any(mask & ~same == 0 for same in self._mergeable):
            return None
        key = tuple(sorted(self._labels[bit].cost for bit in bits(mask)))
        known = self._memory.merged
        if key not in known:
            self._before_asking()
            names = self.graph.names_of(mask)
            seconds = self._memory.ask.merged(names)
            known[key] = None if seconds is None else _checked(seconds, (names,))
        return known[key]

    def _groups_in(self, mask: int) -> tuple[int, ...]:
        """Components by lowest bit; a stage without its first group has mostly been met."""
        groups = self._groups.get(mask)
        if groups is None:
            first = self.graph.component(mask, mask & -mask)
            groups = self._groups[mask] = (first, *self._groups_in(mask ^ first))
        return groups

    def _names(self, group: int) -> tuple[str, ...]:
        names = self._group_names.get(group)
        if names is None:
            names = self._group_names[group] = self.graph.names_of(group)
        return names

    def _number(self, group: int) -> int:
        number = self._group_numbers.get(group)
        if number is None:
            numbers = self._memory.groups
            number = numbers.setdefault(self._signature(group), len(numbers))
            self._group_numbers[group] = number
        return number

    def _signature(self, group: int) -> Hashable:
        """The group's operators in order: cost key, who reads whom, what is read outside."""
        place = {bit: index for index, bit in enumerate(bits(group))}
        graph = self.graph
        return tuple(
            (
                self._labels[bit].cost,
                tuple(place[before] for before in bits(graph.predecessors[bit] & group)),
                self._labels[bit].kept or bool(graph.successors[bit] & ~group),
            )
            for bit in place
        )


def _merge_classes(labels: tuple[Label, ...]) -> list[int]:
    """Masks of two or more operators that may be merged."""
    classes: dict[int, int] = {}
    for bit, label in enumerate(labels):
        if label.merge >= 0:
            classes[label.merge] = classes.get(label.merge, 0) | 1 << bit
    return [mask for mask in classes.values() if mask & mask - 1]


def _floors(graph: OperatorGraph, cost: StageCost) -> list[float] | None:
    """The floor of every operator; None where the cost knows none."""
    if not isinstance(cost, FlooredStageCost):
        return None
    return [_checked(cost.floor(name), ((name,),)) for name in graph.names]


def _checked(seconds: float, groups: Groups) -> float:
    if not seconds >= 0:
        raise ValueError(f"the stage {groups} costs {seconds} seconds: a cost is at least 0")
    return float(seconds)
