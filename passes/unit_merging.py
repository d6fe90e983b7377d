"""Merges what a function computes into units; ``units`` has the rules, by number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from motet.passes.scheduling.blocks import separators
from motet.passes.scheduling.graph import OperatorGraph
from motet.passes.unit_values import Computed, Role, is_depthwise, is_pointwise


@dataclass
class Part:
    """A unit in the making.

    members: numbers of its values, ascending; the last is its result. role: of the value that
    gives it its name. anchor: that value. reads, readers: other parts, by ``_Merger.parts``' keys.
    """

    members: list[int]
    role: Role
    anchor: int
    reads: set[int]
    readers: set[int]
    is_result: bool

    @property
    def is_sum(self) -> bool:
        """Whether it is elementwise work on the results of several others."""
        return self.role is Role.ELEMENTWISE and len(self.reads) > 1


_TAKES_FOLLOWERS = {Role.PRODUCT, Role.OPERATOR, Role.ELEMENTWISE}
_TAKES_MAPS = {Role.PRODUCT, Role.ELEMENTWISE}


class _Merger:
    """Parts of one function; each merge takes the part that is read into its only reader, or
    a part into the only one that it reads, where nothing else does: no circle can arise.
    """

    def __init__(self, computed: Sequence[Computed]) -> None:
        self.computed = computed
        self.parts = {
            number: Part(
                [number], one.role, number, set(one.reads), set(one.readers), one.is_result
            )
            for number, one in enumerate(computed)
        }

    def join(self, first: int, second: int, role: Role, anchor: int) -> None:
        """Make ``second``, the only reader of ``first``, one part with it."""
        before, behind = self.parts.pop(first), self.parts[second]
        behind.members = sorted((*before.members, *behind.members))
        behind.reads = (before.reads | behind.reads) - {first}
        behind.role, behind.anchor = role, anchor
        for number in before.reads:
            readers = self.parts[number].readers
            readers.discard(first)
            readers.add(second)

    def only_reader(self, number: int) -> int | None:
        """The one part that reads ``number``; None where there are several, or the result is."""
        part = self.parts[number]
        return None if part.is_result or len(part.readers) != 1 else next(iter(part.readers))

    def take_followers(self) -> None:
        """Rule 2: from the first value on, so that chains and then their diamonds close."""
        for number in sorted(self.parts):
            part = self.parts[number]
            if part.role is not Role.ELEMENTWISE or len(part.reads) != 1:
                continue
            (first,) = part.reads
            before = self.parts[first]
            if before.role in _TAKES_FOLLOWERS and self.only_reader(first) == number:
                self.join(first, number, before.role, before.anchor)

    def close_diamonds(self) -> bool:
        """Elementwise parts that only one elementwise part reads, and that read what it reads.

        As x * clip(x + 3): the clip is a part of the product, which then has one input.
        """
        changed = False
        for number in sorted(self.parts):
            part = self.parts[number]
            reader = self.only_reader(number)
            if reader is None or part.role is not Role.ELEMENTWISE or len(part.reads) != 1:
                continue
            behind = self.parts[reader]
            if behind.role is Role.ELEMENTWISE and part.reads <= behind.reads:
                self.join(number, reader, Role.ELEMENTWISE, behind.anchor)
                changed = True
        return changed

    def follow_joins(self) -> None:
        """Rule 2, of a concatenation: what alone reads it and several read is its part."""
        for number in sorted(self.parts):
            part = self.parts[number]
            if part.role is not Role.ELEMENTWISE or len(part.reads) != 1 or len(part.readers) < 2:
                continue
            (first,) = part.reads
            before = self.parts[first]
            if before.role is Role.CONCAT and self.only_reader(first) == number:
                self.join(first, number, Role.CONCAT, before.anchor)

    def join_separable(self) -> None:
        """Rule 3."""
        for number in sorted(self.parts):
            reader = self.only_reader(number)
            if reader is None or not self.is_anchor(number, is_depthwise):
                continue
            if self.is_anchor(reader, is_pointwise) and self.is_data(number, reader):
                self.join(number, reader, Role.PRODUCT, self.parts[reader].anchor)

    def is_anchor(self, number: int, holds: Callable[..., bool]) -> bool:
        """Whether a part's anchor is such a product."""
        part = self.parts[number]
        return part.role is Role.PRODUCT and holds(self.computed[part.anchor].binding.value)

    def is_data(self, number: int, reader: int) -> bool:
        """Whether the anchor of ``reader`` reads ``number``, and nothing else does but in it."""
        result = self.parts[number].members[-1]
        return result in self.computed[self.parts[reader].anchor].reads

    def absorb(self, joins: Iterable[int]) -> None:
        """Rules 4 and 5; ``joins`` are sums that stay as they are."""
        kept = set(joins)
        for number in sorted(self.parts):
            part, reader = self.parts[number], self.only_reader(number)
            if reader is None or part.role is not Role.ELEMENTWISE or number in kept:
                continue
            behind = self.parts[reader]
            takes = behind.role is not Role.CLOSED if part.is_sum else behind.role in _TAKES_MAPS
            if takes:
                self.join(number, reader, behind.role, behind.anchor)

    def separating_sums(self) -> list[int]:
        """Sums through which every path from a part that reads none to a result's passes."""
        order = self.in_order()
        edges = [(read, number) for number in order for read in self.parts[number].reads]
        graph = OperatorGraph.from_edges(map(str, order), ((str(u), str(v)) for u, v in edges))
        through = (int(graph.names[bit]) for bit in separators(graph))
        return [number for number in through if self.parts[number].is_sum]

    def in_order(self) -> list[int]:
        """The parts by where their results are computed, which is an order they can run in."""
        return sorted(self.parts, key=lambda number: self.parts[number].members[-1])


def merged(computed: Sequence[Computed]) -> list[Part]:
    """The units of what a function computes, in an order in which they can run."""
    merger = _Merger(computed)
    merger.take_followers()
    while merger.close_diamonds():
        merger.take_followers()
    merger.follow_joins()
    merger.join_separable()
    merger.absorb(merger.separating_sums())
    parts = [merger.parts[number] for number in merger.in_order()]
    place = {number: at for at, number in enumerate(merger.in_order())}
    for part in parts:
        part.reads = {place[number] for number in part.reads}
        part.readers = {place[number] for number in part.readers}
    return parts
