"""Schedule distinct blocks within a budget of time.

Without a budget every block is solved whole. With one, every block gets an even share of the
time that is left, small ones first: it is scheduled in windows of its operators, 8 in a
row, then 16 and so on, before it is scheduled whole, so that there is something to return
when its share is used up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import inf

from motet.passes.scheduling.blocks import STATE_LIMIT
from motet.passes.scheduling.endings import PAPER, Pruning
from motet.passes.scheduling.equal_blocks import NamedBlock
from motet.passes.scheduling.graph import OperatorGraph
from motet.passes.scheduling.programme import (
    Deadline,
    Found,
    OutOfTimeError,
    Stages,
    found,
    greedy,
    optimal,
    sequential,
)
from motet.passes.scheduling.stage_costs import CostMemory, StagePrices
from motet.runtime.schedule import FoundBy

_FIRST_WINDOW = 8

Progress = Callable[[int, int], None]
"""Called with the operators of distinct blocks scheduled so far, and with their total."""


@dataclass(frozen=True)
class Search:
    """How hard to look.

    pruning: bounds r and s on stages. budget_seconds: time for the whole search, None for as
    long as it takes; costs of sequential and greedy are asked in any case. state_limit:
    blocks of more states are cut at inner joins (``blocks``).
    """

    pruning: Pruning = PAPER
    budget_seconds: float | None = None
    state_limit: int = STATE_LIMIT


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
    end = None if search.budget_seconds is None else time.monotonic() + search.budget_seconds
    solved: dict[Hashable, Found] = {}
    for index, block in enumerate(waiting):
        attempt = _Attempt(block, memory, search.pruning, _share(end, len(waiting) - index))
        solved[block.form] = attempt.best(_onwards(progress, done, total))
        done += len(block.graph)
    return solved


def _onwards(progress: Progress, done: int, total: int) -> Callable[[int], None]:
    """Progress within a block, counted from the operators done before it."""
    return lambda more: progress(done + more, total)


def _share(end: float | None, blocks_left: int) -> Deadline:
    """An even share of the time that is left."""
    if end is None:
        return Deadline()
    now = time.monotonic()
    return Deadline(now + max(0.0, end - now) / blocks_left)


class _Attempt:
    """The search for one block's stages."""

    def __init__(
        self, block: NamedBlock, memory: CostMemory, pruning: Pruning, deadline: Deadline
    ) -> None:
        self._block = block
        self._memory = memory
        self._pruning = pruning
        self._deadline = deadline

    def best(self, progress: Callable[[int], None]) -> Found:
        """The best stages that the time allows, never worse than sequential and greedy."""
        best = min(
            by_rule(self._block, self._memory, sequential, "sequential"),
            by_rule(self._block, self._memory, greedy, "greedy"),
            key=lambda one: one.seconds,
        )
        whole = self._prices(self._block)
        try:
            for window in self._windows():
                stages = self._in_windows(window)
                best = _better(best, found(stages, whole, "budget"))
            stages = optimal(whole, self._pruning, best.seconds, self._deadline, progress) or ()
        except OutOfTimeError:
            progress(len(self._block.graph))
            return replace(best, by="budget")
        if stages:
            return _better(best, found(stages, whole, "optimal"))
        return replace(best, by="optimal") if best.by == "budget" else best

    def _prices(self, block: NamedBlock) -> StagePrices:
        return StagePrices(block.graph, block.labels, self._memory, self._deadline.check)

    def _windows(self) -> Iterator[int]:
        """Sizes of windows to try before the whole block: none without a deadline."""
        size = _FIRST_WINDOW
        while self._deadline.at is not None and size < len(self._block.graph):
            yield size
            size *= 2

    def _in_windows(self, size: int) -> Stages:
        """Stages of the block's operators, ``size`` in a row at a time."""
        stages: list[int] = []
        for start in range(0, len(self._block.graph), size):
            part = self._block.window(start, start + size)
            masks = optimal(self._prices(part), self._pruning, inf, self._deadline)
            assert masks is not None  # one operator after another costs less than inf
            stages += (mask << start for mask in masks)
        return tuple(stages)


def _better(best: Found, other: Found) -> Found:
    return other if other.seconds < best.seconds else best
