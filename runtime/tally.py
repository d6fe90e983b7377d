"""What became of the runs that were submitted, model by model."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from motet.runtime.queueing import Miss
from motet.runtime.submitted import Submitted

KEPT_LATENCIES = 10_000
"""Finished runs of a model whose latencies are kept: the newest."""

COUNTED = ("finished", "failed", "dropped", "timed_out", "cancelled", "missed", "refused")
"""What becomes of runs, and of the wish for one."""

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class RunStatistics:
    """Runs of one model since the session was loaded.

    released: taken into the queue. Each of them is in one of: finished; failed (raised);
    dropped (late before it began); timed_out; cancelled; waiting or running now (one that was
    broken off is running).
    refused: never released, as the queue was full.
    missed: of those with a deadline, those that did not finish by it; cancelled ones left out.
    p50_seconds, p95_seconds, p99_seconds: latency from ``submit`` to the end of finished runs,
    the newest 10 000; each is one run's. None where there is none.
    """

    released: int
    finished: int
    missed: int
    dropped: int
    failed: int
    timed_out: int
    cancelled: int
    refused: int
    waiting: int
    running: int
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None


@dataclass
class Tally:
    """Counts of one model; the dispatcher's lock guards it."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_LATENCIES))
    released: int = 0
    """Taken into the queue."""
    waiting: int = 0
    """Released and not begun."""
    working: int = 0
    """On a worker now."""

    def ended(self, run: Submitted, outcome: str) -> Miss | None:
        """Count an end; gives the miss where it is one."""
        now = time.monotonic()
        self.counts[outcome] += 1
        if outcome == "finished":
            self.latencies.append(now - run.release)
        if run.deadline is None or now <= run.deadline or outcome == "cancelled":
            return None
        self.counts["missed"] += 1
        return Miss(run.model, now - run.deadline, outcome)

    def statistics(self) -> RunStatistics:
        """The figures as they are now."""
        ended = ("finished", "failed", "dropped", "timed_out", "cancelled")
        counts = self.counts
        over = sum(counts[name] for name in ended)
        percentiles: list[float | None] = [None] * len(PERCENTILES)
        if self.latencies:
            percentiles = np.percentile(self.latencies, PERCENTILES, method="higher").tolist()
        return RunStatistics(
            self.released,
            counts["finished"],
            counts["missed"],
            counts["dropped"],
            counts["failed"],
            counts["timed_out"],
            counts["cancelled"],
            counts["refused"],
            self.waiting,
            self.released - over - self.waiting,
            *percentiles,
        )
