"""Operators and their order as bitmasks: what counting, cutting and scheduling work on.

Free of tvm. An operator is a bit; a set of operators is a Python int. Bits are numbered
in a topological order, so ascending bits are an order in which a set may run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from motet.passes.ordering import WaitingError, ordered
from motet.runtime.errors import ModelError


@dataclass(frozen=True)
class OperatorGraph:
    """A directed acyclic graph of schedulable operators.

    names: one per operator, unique, in a topological order.
    successors, predecessors: for each operator, the mask of those that read its result,
        and of those whose results it reads.
    joins: the mask of those that only join results, by a concatenation or a sum; one that
        directly follows a block belongs to it (``blocks``).
    """

    names: tuple[str, ...]
    successors: tuple[int, ...]
    predecessors: tuple[int, ...]
    joins: int = 0

    @classmethod
    def from_edges(
        cls,
        names: Iterable[str],
        edges: Iterable[tuple[str, str]],
        joins: Iterable[str] = (),
    ) -> OperatorGraph:
        """The graph of ``names`` with ``edges`` (producer, consumer); repeats count once.

        The order of ``names`` is kept where it is topological, and changed as little as
        a heap of ready operators does where it is not. What is no operator (graph inputs,
        constants) has no place here. Raises ModelError for a name that repeats or is not
        listed, and for a cycle.
        """
        given = tuple(names)
        place = {name: index for index, name in enumerate(given)}
        if len(place) != len(given):
            repeated = next(name for index, name in enumerate(given) if place[name] != index)
            raise ModelError(f"operator {repeated!r} is listed twice: give each its own name")
        pairs = set()
        for producer, consumer in edges:
            for name in (producer, consumer):
                if name not in place:
                    raise ModelError(f"an edge names {name!r}, which is no operator: list it")
            pairs.add((place[producer], place[consumer]))
        order = _topological(given, pairs)
        bit = {old: new for new, old in enumerate(order)}
        sorted_names = tuple(given[old] for old in order)
        only = set(joins)
        join_mask = sum(1 << new for new, name in enumerate(sorted_names) if name in only)
        return cls._of(sorted_names, ((bit[u], bit[v]) for u, v in pairs), join_mask)

    @classmethod
    def _of(
        cls, names: tuple[str, ...], pairs: Iterable[tuple[int, int]], joins: int
    ) -> OperatorGraph:
        successors, predecessors = [0] * len(names), [0] * len(names)
        for u, v in pairs:
            successors[u] |= 1 << v
            predecessors[v] |= 1 << u
        return cls(names, tuple(successors), tuple(predecessors), joins)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def everything(self) -> int:
        """The mask of all operators."""
        return (1 << len(self.names)) - 1

    @property
    def edges(self) -> Iterator[tuple[str, str]]:
        """(producer, consumer), by producer, then consumer."""
        for u, after in enumerate(self.successors):
            for v in bits(after):
                yield self.names[u], self.names[v]

    def names_of(self, mask: int) -> tuple[str, ...]:
        """The names of the operators of ``mask``, in topological order."""
        return tuple(self.names[bit] for bit in bits(mask))

    def induced(self, mask: int) -> OperatorGraph:
        """The operators of ``mask`` with the edges among them, in the same order."""
        kept = list(bits(mask))
        bit = {old: new for new, old in enumerate(kept)}
        pairs = ((bit[u], bit[v]) for u in kept for v in bits(self.successors[u] & mask))
        joins = sum(1 << bit[old] for old in bits(self.joins & mask))
        return self._of(self.names_of(mask), pairs, joins)

    def component(self, mask: int, seed: int) -> int:
        """The weakly connected component of ``mask`` that holds the operator ``seed``, a mask."""
        group, frontier = 0, seed
        while frontier:
            low = frontier & -frontier
            bit = low.bit_length() - 1
            group |= low
            frontier |= (self.successors[bit] | self.predecessors[bit]) & mask
            frontier &= ~group
        return group

    def components(self, mask: int) -> tuple[int, ...]:
        """All weakly connected components of ``mask``: the groups of a stage, by lowest bit."""
        found = []
        while mask:
            found.append(self.component(mask, mask & -mask))
            mask ^= found[-1]
        return tuple(found)

    def sinks(self, mask: int = -1) -> int:
        """The mask of the operators of ``mask``, or of all, whose result no other of it reads."""
        return sum(
            1 << bit
            for bit, after in enumerate(self.successors)
            if mask >> bit & 1 and not after & mask
        )

    def ancestors(self) -> tuple[int, ...]:
        """For each operator the mask of all that lead to it, itself left out."""
        above = [0] * len(self.names)
        for v, before in enumerate(self.predecessors):
            for u in bits(before):
                above[v] |= above[u] | 1 << u
        return tuple(above)


def bits(mask: int) -> Iterator[int]:
    """The positions of the set bits, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _topological(names: tuple[str, ...], pairs: set[tuple[int, int]]) -> list[int]:
    """Old positions in a topological order: of those that are ready, the first listed."""
    reads: list[list[int]] = [[] for _ in names]
    for u, v in pairs:
        reads[v].append(u)
    try:
        return ordered(reads)
    except WaitingError as error:
        raise ModelError(
            f"operator {names[error.item]!r} waits for its own result: break the cycle"
        ) from error
