"""What the event loop of the timing view knows, as arrays for compiled code."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

RECORD = np.dtype(
    [
        ("start", "<i8"),
        ("end", "<i8"),
        ("first_begin", "<i8"),
        ("first_end", "<i8"),
        ("second_begin", "<i8"),
        ("second_end", "<i8"),
        ("ready", "<i8"),
        ("other", "<i8"),
    ]
)
"""What happened to an instruction, in cycles; -1 until it has happened.

start: its engine took it (WAIT: its queue reached it). end: it was complete. first: MATMUL's
capture; VECTOR's lanes; the DRAM channel's transfer of LOAD and STORE. second: MATMUL's streaming;
the links of LOAD, STORE and TRANSFER, the network's latency included. ready: a MATMUL could
stream, had it ports. other: the DRAM channel
of LOAD and STORE; of a WAIT that had to wait, the instruction that ended it.
"""

QUEUE = np.dtype(
    [
        ("head", "<i8"),
        ("stop", "<i8"),
        ("retired", "<i8"),
        ("semaphore", "<i8"),
        ("first_waiter", "<i8"),
        ("next_waiter", "<i8"),
        ("waits_for_all", "<i8"),
        ("stream", "<i8"),
        ("streamed", "<i8"),
        ("dataflow", "<i8"),
        ("empty", "<i8"),
        ("complete", "<i8"),
        ("low", "<i8"),
        ("high", "<i8"),
        ("busy", "<i8"),
    ]
)
"""A queue. head: the next instruction; retired: all before it are complete. first_waiter: a queue
that waits for this one's semaphore, ``next_waiter`` the next that waits with it; -1 for none.
waits_for_all: 1 while the head waits for all before it. stream, streamed: start and T of the
array's last tile, -1 before the first; dataflow: its; empty: when its last result has left.
complete: when the vector unit's pipe is empty; low, high:
bounds of the accumulators that what is in it writes. busy: cycles in which the engine worked.
"""

DRAM = np.dtype(
    [
        ("latency", "<i8"),
        ("requests", "<i8"),
        ("in_flight", "<i8"),
        ("channel", "<i8"),
        ("first_waiting", "<i8"),
        ("last_waiting", "<i8"),
    ]
)
"""``channel``: that of the next request. ``*_waiting``: ends of the ring ``State.waiting``."""


class State(NamedTuple):
    """Everything that the event loop reads and writes.

    instructions, costs, records: [count], dtypes ``INSTRUCTION``, ``COST``, ``RECORD``.
    channel_costs: int64 [count], cycles of a DRAM channel x 2**FRACTION_BITS.
    pods [pods] of ``POD``; queues [queues] of ``QUEUE``; dram [1]; network [1] of ``NETWORK``.
    ports: int64 [pods, 1 + most ports]: busy cycles, then when each port is free.
    channels: int64 [channels, 2], free and busy, x 2**FRACTION_BITS; links: int64 [links, 2].
    waiting: int64 [queues + 1], ring of queues that wait for a DMA request to end.
    heap: see ``event_queue``.
    """

    instructions: Any
    costs: Any
    records: Any
    channel_costs: Any
    pods: Any
    queues: Any
    dram: Any
    network: Any
    ports: Any
    channels: Any
    links: Any
    waiting: Any
    heap: Any
