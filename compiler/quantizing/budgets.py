"""Choosing one option for each of several items under a budget: the multiple-choice knapsack.

Each item (a product) has options (settings), each with a cost (bytes) and a noise (what it adds
to the outputs' error); noises of different items are taken to add up. ``least_noise`` and
``least_cost`` are exact by dynamic programming over costs, which are counted in cells: where
they span more than ``CELLS``, costs are rounded up to whole cells, so that a budget is never
passed and at most one cell for each item is given away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CELLS = 1 << 15

_SLACK = 1e-9
"""Part of a bound of noise by which a sum in another order may pass it."""


@dataclass(frozen=True)
class Option:
    """What choosing it costs (a whole number) and adds to the noise; neither is negative."""

    cost: int
    noise: float


Items = Sequence[Sequence[Option]]


def least_noise(items: Items, budget: int) -> list[int] | None:
    """The option of each item so that the noise is least and costs are at most ``budget``.

    None where even the cheapest options cost more. Of equal noises any may be given.
    """
    cheapest = _cheapest(items)
    if cheapest > budget:
        return None
    table = _Table(items, budget - cheapest)
    return table.options_at(table.cells)


def least_cost(items: Items, noise: float) -> list[int] | None:
    """The option of each item so that costs are least and the noise is at most ``noise``.

    None where even the quietest options are noisier.
    """
    span = sum(max(o.cost for o in options) for options in items) - _cheapest(items)
    # Costs rounded up to cells may sum to more than the span: room for a cell or two an item.
    table = _Table(items, span + 2 * (len(items) + 1) * max(1, -(-span // CELLS)))
    enough = np.flatnonzero(table.least <= noise * (1 + _SLACK))
    return table.options_at(int(enough[0])) if enough.size else None


def totals(items: Items, chosen: Sequence[int]) -> Option:
    """Cost and noise of a choice."""
    options = [options[index] for options, index in zip(items, chosen, strict=True)]
    return Option(sum(o.cost for o in options), math.fsum(o.noise for o in options))


def _cheapest(items: Items) -> int:
    return sum(min(option.cost for option in options) for options in items)


class _Table:
    """least[b]: the least noise of all items with b cells to spend beyond the cheapest options.

    span: the most that may be spent beyond those.
    """

    def __init__(self, items: Items, span: int) -> None:
        self.cell = max(1, -(-span // CELLS))
        self.cells = span // self.cell
        self.least: NDArray[np.float64] = np.zeros(self.cells + 1)
        self._extras = [self._in_cells(options) for options in items]
        self._taken = [
            self._add(extras, [option.noise for option in options])
            for extras, options in zip(self._extras, items, strict=True)
        ]

    def _in_cells(self, options: Sequence[Option]) -> list[int]:
        base = min(option.cost for option in options)
        return [-(-(option.cost - base) // self.cell) for option in options]

    def _add(self, extras: Sequence[int], noises: Sequence[float]) -> NDArray[np.int16]:
        """Takes an item in; which of its options each place of the table has."""
        found = np.full(self.cells + 1, np.inf)
        taken = np.zeros(self.cells + 1, np.int16)
        for index, (extra, noise) in enumerate(zip(extras, noises, strict=True)):
            if extra > self.cells:
                continue
            tried = self.least[: self.cells + 1 - extra] + noise
            better = tried < found[extra:]
            found[extra:][better] = tried[better]
            taken[extra:][better] = index
        self.least = found
        return taken

    def options_at(self, place: int) -> list[int]:
        """The options that ``least[place]`` is made of."""
        chosen = []
        for extras, taken in zip(reversed(self._extras), reversed(self._taken), strict=True):
            index = int(taken[place])
            chosen.append(index)
            place -= extras[index]
        return chosen[::-1]
