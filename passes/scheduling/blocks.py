"""Cut a network into blocks that are scheduled one by one, at separators found in the graph.

**Separators.** An operator is a separator when every path from a source of the graph (an
operator that reads no other) to a sink passes through it. A block goes from behind one
separator up to and with the next: it ends in one join. Separators that follow each
other directly make one block together, a chain; but one that only joins (``graph.joins``)
and directly follows a block belongs to that. So Inception V3 falls into its stem, eleven
modules and its end, RandWire into its stages, and a fire module is never cut between its
concatenation and the sum with its bypass, since the bypass goes around the concatenation.
A graph with several inputs or outputs has fewer separators, which costs time, not quality.

**Inner joins.** Where cells read the results of the two cells before them (NasNet), no
operator is a separator and the states of many cells multiply. Only a region between
separators that has more than ``state_limit`` states is cut further. A chain of joins
v1, v2, ... (operators that read several others, each leading to the next) cuts it when

    every edge that leaves D(vi), vi with all that leads to it, starts at v1, ... or vi

so block D(vi) - D(vi-1) gives results to later ones through vi alone. Of all such chains
the one with the least sum of squared block sizes is taken. Where a block is left with too many
states, a join with one reader stands for the end of the chain behind it that several read: the
activation of a cell's output, which both cells behind it read. A branch that leads to
none of the joins goes into the earliest block in which it can run. Such a cut is not
exact: what reads only older joins could have run beside the block before.
"""

from __future__ import annotations

from dataclasses import dataclass

from motet.passes.scheduling.endings import states_of
from motet.passes.scheduling.graph import OperatorGraph, bits

STATE_LIMIT = 1 << 14
"""States from which on a region is cut further; the largest stage that IOS schedules whole
(RandWire ws-32) has about 5400."""


def cut_blocks(graph: OperatorGraph, state_limit: int = STATE_LIMIT) -> tuple[OperatorGraph, ...]:
    """Blocks of ``graph`` in an order in which they can run, every operator in one of them."""
    blocks: list[OperatorGraph] = []
    for region in _regions(graph):
        part = graph.induced(region)
        if _fits(part, state_limit):
            blocks.append(part)
            continue
        joins = {bit for bit in bits(region) if _is_join(graph, bit)}
        cut = _cut_at(graph, region, joins)
        if not all(_fits(block, state_limit) for block in cut):
            cut = _cut_at(graph, region, {_shared_end(graph, bit, region) for bit in joins})
        blocks += cut
    return tuple(blocks)


def _fits(graph: OperatorGraph, state_limit: int) -> bool:
    return len(states_of(graph, state_limit)) <= state_limit


def _cut_at(graph: OperatorGraph, region: int, ends: set[int]) -> list[OperatorGraph]:
    """The blocks of a region, of which ``ends`` may be the last operators."""
    part = graph.induced(region)
    masks = _cut_at_joins(part, [bit in ends for bit in bits(region)])
    return [part.induced(mask) for mask in masks]


def separators(graph: OperatorGraph) -> tuple[int, ...]:
    """Operators through which every path from a source to a sink passes, in order.

    In a topological order all that comes before a separator leads to it, and all that
    comes after it follows from it: so v is one when no edge leads from before v to
    behind it, no sink lies before it and no source behind.
    """
    last_source = max((v for v, before in enumerate(graph.predecessors) if not before), default=0)
    found, reach = [], 0
    for v, after in enumerate(graph.successors):
        if v >= last_source and reach <= v:
            found.append(v)
        reach = max(reach, after.bit_length() - 1 if after else len(graph))
    return tuple(found)


def _regions(graph: OperatorGraph) -> list[int]:
    """Masks from separator to separator, single ones put together as the rule above says."""
    regions: list[int] = []
    start, chain = 0, False
    ends = [v + 1 for v in separators(graph)]
    for end in ends:
        region = (1 << end) - (1 << start)
        single = end - start == 1
        joins = bool(single and regions and graph.joins & region)
        if joins or (single and chain):
            regions[-1] |= region
        else:
            regions.append(region)
        start, chain = end, chain if joins else single
    tail = (1 << len(graph)) - (1 << start)
    return [*regions, tail] if tail else regions


def _is_join(graph: OperatorGraph, v: int) -> bool:
    return graph.predecessors[v].bit_count() > 1


def _shared_end(graph: OperatorGraph, v: int, region: int) -> int:
    """The first that several read of the chain in ``region`` from ``v`` on; ``v`` without one."""
    end = v
    while graph.successors[end].bit_count() == 1:
        reader = graph.successors[end].bit_length() - 1
        if _is_join(graph, reader) or not region >> reader & 1:
            return v
        end = reader
    return end


@dataclass(frozen=True)
class _Cut:
    """A chain of joins that ends here: the operators before the cut, and the sum of squares."""

    before: int
    squares: int
    previous: _Cut | None


def _cut_at_joins(region: OperatorGraph, joins: list[bool]) -> list[int]:
    """Masks of the blocks of ``region``; ``joins`` says which operators may end one."""
    above = region.ancestors()
    cuts: list[_Cut] = []
    ends = [(above[v] | 1 << v, v) for v, join in enumerate(joins) if join]
    for before, v in ends:
        if before != region.everything:
            best = _best_chain(cuts, before, _leaks(region, before) & ~(1 << v))
            cuts += [best] if best else []
    last = _best_chain(cuts, region.everything, 0)
    assert last is not None
    return _with_side_operators(region, _chain(last))


def _leaks(region: OperatorGraph, before: int) -> int:
    """Operators of ``before`` whose result is read outside it."""
    return sum(1 << bit for bit in bits(before) if region.successors[bit] & ~before)


def _best_chain(cuts: list[_Cut], before: int, leaks: int) -> _Cut | None:
    """The cheapest chain that goes on with ``before``: what leaks lies before its last cut."""
    best: _Cut | None = None
    for previous in (None, *cuts):
        done = previous.before if previous else 0
        if done & ~before or leaks & ~done or done == before:
            continue
        size = (before & ~done).bit_count()
        squares = size * size + (previous.squares if previous else 0)
        if best is None or squares < best.squares:
            best = _Cut(before, squares, previous)
    return best


def _chain(last: _Cut) -> list[int]:
    """The growing sets before each cut, the whole region last."""
    growing: list[int] = []
    cut: _Cut | None = last
    while cut is not None:
        growing.append(cut.before)
        cut = cut.previous
    return growing[::-1]


def _with_side_operators(region: OperatorGraph, growing: list[int]) -> list[int]:
    """Blocks between the cuts; a branch that leads to no join goes where it can first run."""
    blocks = [after & ~before for before, after in zip([0, *growing], growing, strict=False)]
    rest, blocks[-1] = blocks[-1], 0
    ends = [mask.bit_length() - 1 for mask in blocks[:-1]]
    for branch in region.components(rest):
        reads = 0
        for bit in bits(branch):
            reads |= region.predecessors[bit]
        place = max((1 + i for i, end in enumerate(ends) if reads >> end & 1), default=0)
        blocks[place] |= branch
    return [mask for mask in blocks if mask]
