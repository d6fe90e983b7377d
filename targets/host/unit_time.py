"""About how long a kernel takes, from what it computes and moves: for decisions between kernels.

No figure of a kernel family: a unit counts by its multiply-accumulates and the bytes of its
operands and results, which are mostly in the caches of the operator before. Small kernels run
on one thread, whatever there is (``docs/HOST_THREADS.md``).
"""

from __future__ import annotations

from dataclasses import dataclass

from motet.targets.cost import Cost
from motet.targets.host.machine import Machine

FORK_SECONDS = 2e-6
"""Of a launch that another thread joins, and the wait for the last group."""
_CALL_SECONDS = 0.4e-6
_FLOPS_PER_LANE = 9e9
"""Fused multiply-adds count two; three quarters of what a core of 3 GHz can do."""
_BYTES_PER_SECOND = 30e9
_PARALLEL_SECONDS = 10e-6
"""Kernels below run on one thread (1 million operations of a convolution)."""
_EFFICIENCY = 0.96
"""Of several threads in one kernel."""


@dataclass(frozen=True)
class Work:
    """Of one kernel call: multiply-accumulates, and bytes of operands and results."""

    macs: int
    bytes: int


def estimate(work: Work, machine: Machine, threads: int) -> Cost:
    """Seconds of a kernel on ``threads`` threads, by formula."""
    rate = _FLOPS_PER_LANE * machine.vector_bytes / 4
    alone = max(2 * work.macs / rate, work.bytes / _BYTES_PER_SECOND)
    if threads == 1 or alone < _PARALLEL_SECONDS:
        return Cost(_CALL_SECONDS + alone, "formula")
    together = alone / (threads * _EFFICIENCY) + FORK_SECONDS / 2
    return Cost(_CALL_SECONDS + together, "formula")
