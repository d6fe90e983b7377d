"""All endings of a state: which operators the last stage may hold (IOS, arXiv 2011.01302).

A state S is the set of operators that are not yet scheduled, seen from the end: S' is an
*ending* of S when no edge leads from S' to S - S', so S' can be the last stage. Its
*groups* are its weakly connected components; they run side by side. Pruning keeps
endings whose groups have at most r operators, and at most s groups.

A group of an ending is itself an ending, and connected. Conversely, endings of S that
share no operator have no edge between them (an edge that leaves one stays inside it), so
the endings of S are exactly the unions of pairwise disjoint connected endings, each once.
For small r these are few and known beforehand; endings are then put together from them.
Otherwise the endings of S are S - T for the smaller states T, and the pruning is a filter.

Where equal branches may change places without changing S (``twins``), one ending may stand for
all that this makes of it. What an ending grows from, by a group or by a sink, may then be
exchanged for what stands for it: the same exchange turns the ending into one that is as good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from motet.passes.scheduling.allowance import Spend, boundless
from motet.passes.scheduling.graph import OperatorGraph, bits
from motet.passes.scheduling.twins import NO_TWINS, Twins

_ASSEMBLED_GROUP = 4
"""Largest r for which endings are put together from groups; the number of connected
groups grows about as the width to the power r."""

_UNLIMITED_GROUPS = 1 << 30

_MANY_EXCHANGES = 24
"""From which on endings are put together without those that exchanges make of others: these are
then so many that finding out costs less."""


@dataclass(frozen=True)
class Pruning:
    """At most r operators in a group and s groups in a stage; None leaves it open.

    The defaults are those of the paper (section 4.3).
    """

    r: int | None = 3
    s: int | None = 8

    def __post_init__(self) -> None:
        if any(bound is not None and bound < 1 for bound in (self.r, self.s)):
            raise ValueError(f"r = {self.r}, s = {self.s}: both are at least 1, or None")


PAPER = Pruning()
UNPRUNED = Pruning(None, None)

Endings = Callable[[int], "list[int]"]
"""From a state's mask to the masks of its non-empty endings, in a fixed order."""


def endings_of(
    graph: OperatorGraph,
    pruning: Pruning = UNPRUNED,
    twins: Twins = NO_TWINS,
    spend: Spend = boundless,
) -> Endings:
    """The function that lists the endings of a state of ``graph``, each once.

    twins: of all that exchanges make which leave the state as it is, one ending is listed at
    least, and only one where that is cheap.
    spend: a step for every ending, listed or left out.
    """
    if pruning.r is not None and pruning.r <= _ASSEMBLED_GROUP:
        return _assembled(graph, pruning.r, pruning.s or _UNLIMITED_GROUPS, twins, spend)
    return _filtered(graph, pruning, twins, spend)


def states_of(
    graph: OperatorGraph,
    limit: int | None = None,
    twins: Twins = NO_TWINS,
    spend: Spend = boundless,
) -> list[int]:
    """The masks that no edge enters from outside, empty one left out, the largest first.

    These are the states that unpruned scheduling reaches. With a limit, the list ends
    soon after that many. twins: one of all that exchanges make. spend: a step for each way to
    a state.
    """
    level = {graph.everything: graph.sinks()} if graph.everything else {}
    found: list[int] = []
    while level and (limit is None or len(found) <= limit):
        found += sorted(level)
        below: dict[int, int] = {}
        for mask, sinks in level.items():
            if limit is not None and len(found) + len(below) > limit:
                break
            spend(sinks.bit_count())
            for last in bits(sinks):
                rest = mask ^ 1 << last
                if twins:
                    rest = twins.first(rest)
                    if rest and rest not in below:
                        below[rest] = graph.sinks(rest)
                elif rest and rest not in below:
                    below[rest] = _sinks_without(graph, rest, sinks, last)
        level = below
    return found


def _sinks_without(graph: OperatorGraph, rest: int, sinks: int, last: int) -> int:
    """The sinks of ``rest``, which is a state with those ``sinks`` less the one at ``last``."""
    left = sinks ^ 1 << last
    for bit in bits(graph.predecessors[last]):
        if not graph.successors[bit] & rest:
            left |= 1 << bit
    return left


def connected_groups(graph: OperatorGraph, size: int, spend: Spend = boundless) -> list[int]:
    """All weakly connected sets of at most ``size`` operators, in a fixed order."""
    near = [u | v for u, v in zip(graph.successors, graph.predecessors, strict=True)]
    level = {1 << bit for bit in range(len(graph))}
    found = sorted(level)
    for _ in range(size - 1):
        spend(len(level))
        level = {
            mask | 1 << bit
            for mask in level
            for member in bits(mask)
            for bit in bits(near[member] & ~mask)
        }
        found += sorted(level)
    return found


def _outside(graph: OperatorGraph, group: int) -> int:
    """The readers of ``group`` outside it: it is an ending of states that have none of them."""
    readers = 0
    for bit in bits(group):
        readers |= graph.successors[bit]
    return readers & ~group


def _assembled(graph: OperatorGraph, r: int, s: int, twins: Twins, spend: Spend) -> Endings:
    groups = [(group, _outside(graph, group)) for group in connected_groups(graph, r, spend)]

    def endings(state: int) -> list[int]:
        absent = ~state
        fits = [group for group, readers in groups if not (group & absent or readers & state)]
        alike = twins.of_state(state)
        if alike.exchanges >= _MANY_EXCHANGES:
            return _unlike_unions(fits, s, alike, spend)
        return _disjoint_unions(fits, s, spend)

    return endings


def _disjoint_unions(groups: list[int], most: int, spend: Spend) -> list[int]:
    """All unions of 1 to ``most`` pairwise disjoint ``groups``."""
    by_count: list[list[int]] = [[0]]
    for group in groups:
        if len(by_count) <= most:
            by_count.append([])
        made = 0
        for count in range(len(by_count) - 1, 0, -1):
            more = [mask | group for mask in by_count[count - 1] if not mask & group]
            by_count[count] += more
            made += len(more)
        spend(made)
    return [mask for masks in by_count[1:] for mask in masks]


def _unlike_unions(groups: list[int], most: int, twins: Twins, spend: Spend) -> list[int]:
    """Of the same unions one of all that ``twins`` make of each."""
    found: list[int] = []
    level = [0]
    for _ in range(most):
        more: dict[int, None] = {}
        for mask in level:
            for group in groups:
                if not mask & group:
                    more[twins.first(mask | group)] = None
            spend(len(groups))
        level = list(more)
        found += level
        if not level:
            break
    return found


def _filtered(graph: OperatorGraph, pruning: Pruning, twins: Twins, spend: Spend) -> Endings:
    fits = _group_filter(graph, pruning)
    below = [] if twins else [*states_of(graph, spend=spend), 0]

    def endings(state: int) -> list[int]:
        if twins:
            smaller = _smaller(graph, state, twins.of_state(state), spend)
        else:
            absent = ~state
            smaller = [rest for rest in below if not rest & absent and rest != state]
        spend(len(smaller))
        return [state ^ rest for rest in smaller if fits(state ^ rest)]

    return endings


def _smaller(graph: OperatorGraph, state: int, twins: Twins, spend: Spend) -> list[int]:
    """The states in ``state``, itself left out; one of all that ``twins`` make of each."""
    level, found = [state], list[int]()
    while level:
        below: dict[int, None] = {}
        for mask in level:
            sinks = list(bits(graph.sinks(mask)))
            below.update(dict.fromkeys(twins.first(mask ^ 1 << last) for last in sinks))
            spend(len(sinks))
        level = [mask for mask in below if mask]
        found += below
    return found


def _group_filter(graph: OperatorGraph, pruning: Pruning) -> Callable[[int], bool]:
    """Whether a mask's groups are within the bounds; remembered."""
    if pruning == UNPRUNED:
        return lambda _: True
    known: dict[int, bool] = {}
    size, count = pruning.r or len(graph), pruning.s or len(graph)

    def fits(mask: int) -> bool:
        if mask not in known:
            groups = graph.components(mask)
            known[mask] = len(groups) <= count and all(g.bit_count() <= size for g in groups)
        return known[mask]

    return fits


def is_ending(graph: OperatorGraph, state: int, mask: int) -> bool:
    """Whether no edge leads from ``mask``, a part of ``state``, to the rest of it."""
    rest = state & ~mask
    return not any(graph.successors[bit] & rest for bit in bits(mask))


def walk(graph: OperatorGraph, pruning: Pruning) -> Iterator[tuple[int, list[int]]]:
    """The states that are reached from all operators, the largest first, with their endings."""
    endings = endings_of(graph, pruning)
    levels: list[set[int]] = [set() for _ in range(len(graph) + 1)]
    levels[len(graph)].add(graph.everything)
    for size in range(len(graph), 0, -1):
        for state in sorted(levels[size]):
            found = endings(state)
            for mask in found:
                levels[size - mask.bit_count()].add(state ^ mask)
            yield state, found
