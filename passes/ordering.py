"""An order in which items can run that wait for others; free of tvm."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

Edges = Sequence[Sequence[int]]


class WaitingError(ValueError):
    """Items wait for each other; ``item`` is the first of those that can never run."""

    def __init__(self, item: int) -> None:
        super().__init__("items wait for each other")
        self.item = item


def ordered(inputs: Edges) -> list[int]:
    """Items so that each comes after those it reads, otherwise in their own order.

    Raises ``WaitingError`` where items wait for each other.
    """
    waits = [set(reads) for reads in inputs]
    readers: list[list[int]] = [[] for _ in inputs]
    for item, reads in enumerate(waits):
        for read in reads:
            readers[read].append(item)
    ready = [item for item, reads in enumerate(waits) if not reads]
    order: list[int] = []
    while ready:
        item = heapq.heappop(ready)
        order.append(item)
        for reader in readers[item]:
            waits[reader].discard(item)
            if not waits[reader]:
                heapq.heappush(ready, reader)
    if len(order) != len(waits):
        raise WaitingError(next(item for item, reads in enumerate(waits) if reads))
    return order
