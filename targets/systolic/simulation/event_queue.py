"""A binary heap of events for compiled code.

``heap``: int64 [1 + capacity, 2] of (cycle, payload); row 0 holds the number of events, the
earliest is in row 1. Equal cycles leave in order of their payloads.
"""

from __future__ import annotations

from typing import Any

from motet.targets.systolic.simulation.compiled import kernel


@kernel
def push(heap: Any, cycle: int, payload: int) -> None:
    """Add an event."""
    at = heap[0, 0] + 1
    heap[0, 0] = at
    while at > 1:
        above = at >> 1
        if heap[above, 0] < cycle or (heap[above, 0] == cycle and heap[above, 1] <= payload):
            break
        heap[at, 0], heap[at, 1] = heap[above, 0], heap[above, 1]
        at = above
    heap[at, 0], heap[at, 1] = cycle, payload


@kernel
def drop_first(heap: Any) -> None:
    """Take the earliest event away."""
    size = heap[0, 0]
    cycle, payload = heap[size, 0], heap[size, 1]
    heap[0, 0] = size - 1
    at = 1
    while 2 * at < size:
        below = 2 * at
        if below + 1 < size and (
            heap[below + 1, 0] < heap[below, 0]
            or (heap[below + 1, 0] == heap[below, 0] and heap[below + 1, 1] < heap[below, 1])
        ):
            below += 1
        if cycle < heap[below, 0] or (cycle == heap[below, 0] and payload <= heap[below, 1]):
            break
        heap[at, 0], heap[at, 1] = heap[below, 0], heap[below, 1]
        at = below
    heap[at, 0], heap[at, 1] = cycle, payload
