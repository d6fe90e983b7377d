"""Equal branches of a block: what may change places without any stage costing otherwise.

Branches are sets of operators of one shape: the operators of one pair off with those of
another such that pairs have equal labels, the same neighbours outside their branches, and
paired neighbours inside. So to exchange two of them is an automorphism of the block. By the
terms of ``StageCost`` it changes no stage's cost, nor whether pruning keeps an ending, and

    cost[S] = cost[exchanged S]

Therefore the dynamic programme needs only one state of all that exchanges lead to
(``Twins.first``), and of the endings of a state only one of all that exchanges lead to which
leave the state as it is (``Twins.of_state``). Exact; a fan of n equal operators has n + 1
states so, instead of 2^n.

Branches are found by refined colours (``refinement``): operators that no other can stand for
have colours of their own, and what hangs together without them is a branch. Inside branches
there may be branches. What cannot be taken apart so is searched for operators with the same
neighbours. No group of exchanges is missed that matters in networks, and none is believed:
every exchange is tried on the block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import factorial, prod

from motet.passes.scheduling.graph import OperatorGraph, bits
from motet.passes.scheduling.refinement import colours_of, single_order
from motet.passes.scheduling.stage_costs import Label

Branch = tuple[int, ...]
"""Operators in the order in which they pair off with those of an equal branch."""


@dataclass(frozen=True)
class Branches:
    """Equal branches that do not overlap, in the order in which they are filled."""

    each: tuple[Branch, ...]

    @cached_property
    def _codes(self) -> list[tuple[int, Branch, dict[int, int]]]:
        """Of each: its mask, its operators, and what is known of the parts of its mask."""
        return [(_mask(branch), branch, {}) for branch in self.each]

    @cached_property
    def _whole(self) -> int:
        return _mask([bit for branch in self.each for bit in branch])

    @cached_property
    def _filled(self) -> tuple[int, ...]:
        """Of branches of one operator: the masks of the first 0, 1, ..."""
        return tuple(_mask([b for (b,) in self.each[:n]]) for n in range(len(self.each) + 1))

    def sorted(self, mask: int) -> int:
        """``mask`` with what it has in each branch in falling order."""
        if len(self.each[0]) == 1:
            return mask & ~self._whole | self._filled[(mask & self._whole).bit_count()]
        held = self.held(mask)
        ordered = sorted(held, reverse=True)
        if held == ordered:
            return mask
        mask &= ~self._whole
        for branch, code in zip(self.each, ordered, strict=True):
            for place in bits(code):
                mask |= 1 << branch[place]
        return mask

    def held(self, mask: int) -> list[int]:
        """What ``mask`` has of each branch, as a mask of places in it."""
        held = []
        for whole, branch, known in self._codes:
            part = mask & whole
            code = known.get(part)
            if code is None:
                code = sum(1 << place for place, bit in enumerate(branch) if part >> bit & 1)
                known[part] = code
            held.append(code)
        return held

    def moves(self, mask: int) -> dict[int, int]:
        """Where ``sorted`` puts each operator."""
        held = self.held(mask)
        order = sorted(range(len(held)), key=lambda index: -held[index])
        return {
            old: new
            for index, branch in zip(order, self.each, strict=True)
            for old, new in zip(self.each[index], branch, strict=True)
        }

    def alike(self, state: int) -> Iterator[Branches]:
        """Those that may be exchanged without changing ``state``: what it has of them is equal."""
        runs: dict[int, list[Branch]] = {}
        for branch, code in zip(self.each, self.held(state), strict=True):
            if code:
                runs.setdefault(code, []).append(branch)
        yield from (Branches(tuple(run)) for run in runs.values() if len(run) > 1)


class Twins:
    """The equal branches of a block, inner ones before those that they lie in."""

    def __init__(self, kinds: tuple[Branches, ...]) -> None:
        self.kinds = kinds
        self._firsts: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self.kinds)

    @cached_property
    def exchanges(self) -> int:
        """How many there are, one after another."""
        return prod(factorial(len(kind.each)) for kind in self.kinds)

    def first(self, mask: int) -> int:
        """The one mask that stands for all that exchanges make of ``mask``."""
        made = self._firsts.get(mask)
        if made is None:
            made = mask
            for kind in self.kinds:
                made = kind.sorted(made)
            self._firsts[mask] = made
        return made

    def moves(self, mask: int, operators: int) -> list[int]:
        """Where ``first`` puts each of ``operators``."""
        places = list(range(operators))
        for kind in self.kinds:
            moved = kind.moves(mask)
            places = [moved.get(place, place) for place in places]
            mask = kind.sorted(mask)
        return places

    def of_state(self, state: int) -> Twins:
        """The exchanges that leave ``state`` as it is."""
        return Twins(tuple(alike for kind in self.kinds for alike in kind.alike(state)))


NO_TWINS = Twins(())


def twins_of(graph: OperatorGraph, labels: tuple[Label, ...]) -> Twins:
    """The equal branches of a block."""
    merges: dict[int, int] = {}
    for bit, label in enumerate(labels):
        if label.merge >= 0:
            merges[label.merge] = merges.get(label.merge, 0) | 1 << bit
    finder = _Finder(graph, [(a.cost, a.merge >= 0, a.kept) for a in labels], merges)
    return Twins(tuple(finder.within(graph.everything)))


@dataclass(frozen=True)
class _Finder:
    """kinds: of operators. merges: masks of those that may be merged, by number."""

    graph: OperatorGraph
    kinds: list[tuple[int, bool, bool]]
    merges: dict[int, int]

    def within(self, part: int) -> Iterator[Branches]:
        """Equal branches in ``part``, if all outside it stays where it is; inner ones first."""
        colours = self.colours(part)
        times = Counter(colours.values())
        several = _mask([bit for bit in bits(part) if times[colours[bit]] > 1])
        groups = self.graph.components(several)
        if groups == (part,):
            yield from self.same_neighbours(part)
            return
        for group in groups:
            if group & group - 1:
                yield from self.within(group)
        yield from self.equal(groups)

    def colours(self, part: int) -> dict[int, int]:
        """Refined from what the operators are, and what they have to do with others outside."""
        graph = self.graph
        given = {
            bit: (
                self.kinds[bit],
                graph.predecessors[bit] & ~part,
                graph.successors[bit] & ~part,
            )
            for bit in bits(part)
        }
        return colours_of(graph, given)

    def equal(self, groups: tuple[int, ...]) -> Iterator[Branches]:
        """Branches of one form each."""
        forms: dict[Hashable, list[Branch]] = {}
        for group in groups:
            order = single_order(self.graph, self.colours(group))
            forms.setdefault(self.form(group, order), []).append(order)
        for alike in forms.values():
            yield from self.proved(alike)

    def form(self, group: int, order: Branch) -> Hashable:
        """All of a branch but the operators' numbers."""
        place = {bit: index for index, bit in enumerate(order)}
        before, after = self.graph.predecessors, self.graph.successors
        return tuple(
            (
                self.kinds[bit],
                before[bit] & ~group,
                after[bit] & ~group,
                frozenset(place[b] for b in bits(before[bit] & group)),
            )
            for bit in order
        )

    def same_neighbours(self, part: int) -> Iterator[Branches]:
        """Single operators that read the same and are read by the same."""
        forms: dict[Hashable, list[Branch]] = {}
        for bit in bits(part):
            form = self.kinds[bit], self.graph.predecessors[bit], self.graph.successors[bit]
            forms.setdefault(form, []).append((bit,))
        for alike in forms.values():
            yield from self.proved(alike)

    def proved(self, alike: list[Branch]) -> Iterator[Branches]:
        """Those that can change places with each other."""
        while len(alike) > 1:
            first, *others = alike
            run = [first, *(other for other in others if self.can_swap(first, other))]
            if len(run) > 1:
                yield Branches(tuple(run))
            alike = [other for other in others if other not in run]

    def can_swap(self, one: Branch, other: Branch) -> bool:
        """Whether exchanging them keeps all kinds, edges and sets that may be merged."""
        moved = {**dict(zip(one, other, strict=True)), **dict(zip(other, one, strict=True))}
        graph, merges = self.graph, set(self.merges.values())
        touched = [same for same in merges if any(same >> bit & 1 for bit in moved)]
        return (
            all(self.kinds[bit] == self.kinds[new] for bit, new in moved.items())
            and all(
                _moved(masks[bit], moved) == masks[new]
                for masks in (graph.predecessors, graph.successors)
                for bit, new in moved.items()
            )
            and all(_moved(same, moved) in merges for same in touched)
        )


def _moved(mask: int, places: dict[int, int]) -> int:
    return _mask([places.get(bit, bit) for bit in bits(mask)])


def _mask(branch: list[int] | Branch) -> int:
    return sum(1 << bit for bit in branch)
