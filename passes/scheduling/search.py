"""Schedule distinct blocks within a budget, of steps or of time.

A step is an ending that is looked at (``allowance``): equal input takes equal steps on every
machine, so by default steps are what bounds a search, and what is found does not depend on how
fast a machine is. The default is several times what the largest networks take that IOS was
measured on. Every block gets an even share of what is left, small ones first.

Within its share a block is scheduled whole. Where that does not end, or its states alone are too
many, parts of 8, then 12 operators and so on are: first those that follow each other in the block
(windows), then, of the best stages so far, those that follow each other in time, again and again
while that gains. With a budget of time parts come first, so that there is something to return.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from itertools import takewhile
from math import inf

from motet.passes.options import ScheduleOptions
from motet.passes.scheduling.allowance import Allowance, OutOfTimeError
from motet.passes.scheduling.blocks import STATE_LIMIT
from motet.passes.scheduling.endings import PAPER, Pruning, states_of
from motet.passes.scheduling.equal_blocks import NamedBlock
from motet.passes.scheduling.graph import OperatorGraph, bits
from motet.passes.scheduling.programme import (
    Found,
    Stages,
    found,
    greedy,
    optimal,
    sequential,
)
from motet.passes.scheduling.stage_costs import CostMemory, StagePrices
from motet.runtime.schedule import FoundBy, Schedule

STEPS = 8_000_000
"""Of a search by default: RandWire takes 3.7 million with the paper's bounds, NASNet-A 1.5 million,
Inception V3 60 thousand. At 2 to 3 microseconds each, 20 seconds."""

_PARTS = (8, 12, 16, 24, 32, 48, 64)
"""Operators of a part."""

_FOR_THE_WHOLE = 0.75
"""Of a block's steps; windows have the rest."""

_FOR_STATES = 0.1
"""Of these, for counting the states; a count of more steps means too many."""

_STEPS_OF_A_STATE = 64
"""A block is not tried whole whose states would have fewer steps each: most have more endings."""

Progress = Callable[[int, int], None]
"""Called with the operators of distinct blocks scheduled so far, and with their total."""


@dataclass(frozen=True)
class Search:
    """How hard to look.

    pruning: bounds r and s on stages. budget_seconds: time for the whole search; None: it is
    bounded by ``steps``, which does not depend on the machine, or by nothing. Costs of sequential
    and greedy are asked in any case. state_limit: blocks of more states are cut at inner joins
    (``blocks``).
    """

    pruning: Pruning = PAPER
    budget_seconds: float | None = None
    steps: int | None = STEPS
    state_limit: int = STATE_LIMIT

    def allowance(self) -> Allowance:
        """What may be spent from now on."""
        seconds = self.budget_seconds
        return Allowance.of(seconds, self.steps if seconds is None else None)


def asked_for(options: ScheduleOptions) -> Search:
    """The search of a specification."""
    return Search(Pruning(options.r, options.s), options.budget_seconds)


def cut_short(schedule: Schedule) -> str:
    """Blocks that were not searched to the end, by number; nothing where all were."""
    return ", ".join(
        f"block {number} ({block.operators} operators)"
        for number, block in enumerate(schedule.blocks)
        if block.found_by == "budget"
    )


def more_time(cut: str) -> str:
    """What a compilation says of such blocks."""
    return (
        f"passes.schedule: the search ended early in {cut}, which got the best stages so far: "
        "passes.schedule.budget_seconds = 120 gives it two minutes, a smaller r or s less to do"
    )


def by_rule(
    block: NamedBlock,
    memory: CostMemory,
    rule: Callable[[OperatorGraph], Stages],
    by: FoundBy,
) -> Found:
    """The stages that a simple rule makes, with their seconds."""
    return found(rule(block.graph), StagePrices(block.graph, block.labels, memory), by)


def solve(
    blocks: Iterable[NamedBlock], memory: CostMemory, search: Search, progress: Progress
) -> dict[Hashable, Found]:
    """The best stages of every block, by its form."""
    waiting = sorted(blocks, key=lambda block: len(block.graph))
    total, done = sum(len(block.graph) for block in waiting), 0
    allowance = search.allowance()
    solved: dict[Hashable, Found] = {}
    for index, block in enumerate(waiting):
        own = allowance.part(1 / (len(waiting) - index))
        attempt = _Attempt(block, memory, search.pruning, own)
        solved[block.form] = attempt.best(_onwards(progress, done, total))
        done += len(block.graph)
    return solved


def _onwards(progress: Progress, done: int, total: int) -> Callable[[int], None]:
    """Progress within a block, counted from the operators done before it."""
    return lambda more: progress(done + more, total)


class _Attempt:
    """The search for one block's stages."""

    def __init__(
        self, block: NamedBlock, memory: CostMemory, pruning: Pruning, allowance: Allowance
    ) -> None:
        self._block = block
        self._memory = memory
        self._pruning = pruning
        self._allowance = allowance
        self._prices = StagePrices(block.graph, block.labels, memory)

    def best(self, progress: Callable[[int], None]) -> Found:
        """The best stages that the allowance buys, never worse than sequential and greedy."""
        best = min(
            by_rule(self._block, self._memory, sequential, "sequential"),
            by_rule(self._block, self._memory, greedy, "greedy"),
            key=lambda one: one.seconds,
        )
        is_timed = self._allowance.until is not None
        if is_timed:
            best = self._in_parts(best)
        try:
            whole = self._allowance if is_timed else self._allowance.part(_FOR_THE_WHOLE)
            return self._whole(best, whole, progress)
        except OutOfTimeError:
            best = best if is_timed else self._in_parts(best)
            progress(len(self._block.graph))
            return replace(best, by="budget")

    def _whole(self, best: Found, allowance: Allowance, progress: Callable[[int], None]) -> Found:
        """The optimum; raises OutOfTimeError."""
        graph, twins = self._block.graph, self._block.twins
        if allowance.left < inf:
            most = int(allowance.left / _STEPS_OF_A_STATE)
            looking = allowance.part(_FOR_STATES)
            if len(states_of(graph, most, twins, looking.spend)) > most:
                raise OutOfTimeError
        prices = self._priced(self._block, allowance)
        stages = optimal(prices, self._pruning, best.seconds, allowance, progress, twins)
        if stages:
            return _better(best, found(stages, self._prices, "optimal"))
        return replace(best, by="optimal") if best.by == "budget" else best

    def _priced(self, block: NamedBlock, allowance: Allowance) -> StagePrices:
        return StagePrices(block.graph, block.labels, self._memory, allowance.ask)

    def _in_parts(self, best: Found) -> Found:
        """Stages of ever larger parts, as far as the allowance goes."""
        try:
            for size in takewhile(lambda size: size < len(self._block.graph), _PARTS):
                stages = self._in_windows(size)
                best = _better(best, found(stages, self._prices, "budget"))
                best = self._mended(best, size)
        except OutOfTimeError:
            pass
        return best

    def _in_windows(self, size: int) -> Stages:
        """Stages of the block's operators, ``size`` in a row at a time."""
        stages: list[int] = []
        for start in range(0, len(self._block.graph), size):
            stages += (
                self._stages_of(
                    self._block.graph.everything & (1 << start + size) - (1 << start), inf
                )
                or ()
            )
        return tuple(stages)

    def _mended(self, best: Found, size: int) -> Found:
        """Stages that follow each other, of ``size`` operators at most, anew while that gains."""
        stages, start = list(best.stages), 0
        while start < len(stages):
            mask, end = stages[start], start + 1
            while end < len(stages) and (mask | stages[end]).bit_count() <= size:
                mask |= stages[end]
                end += 1
            now = found(tuple(stages[start:end]), self._prices, "budget")
            made = self._stages_of(mask, now.seconds) if end > start + 1 else None
            if made is None or found(made, self._prices, "budget").seconds >= now.seconds:
                start += 1
                continue
            stages[start:end] = made
            start = max(0, start - 1)
            best = _better(best, found(tuple(stages), self._prices, "budget"))
        return best

    def _stages_of(self, mask: int, bound: float) -> Stages | None:
        """The best stages of a part of the block that cost less than ``bound``."""
        part = self._block.part(mask)
        prices = self._priced(part, self._allowance)
        found = optimal(prices, self._pruning, bound, self._allowance, twins=part.twins)
        places = list(bits(mask))
        return found and tuple(sum(1 << places[bit] for bit in bits(one)) for one in found)


def _better(best: Found, other: Found) -> Found:
    return other if other.seconds < best.seconds else best
