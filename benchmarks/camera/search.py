"""The largest factor on all rates at which no frame is late: bisection over open-loop trials.

A trial that fails is repeated, as a frame may be late for what the machine does beside: a factor
is carried where one of its trials has no late frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from motet.benchmarks.camera.processes import Outcome, Served

STEP = 1.5
"""Between factors until one is carried and one is not."""
LEAST = 0.02
LATE_SHARE = 0.02
"""A trial is ended once more of its frames than this were late."""


class Trial(msgspec.Struct, frozen=True):
    """late: frames that were, of those that ended; ended_early: as too many were."""

    factor: float
    late: int
    frames: int
    ended_early: bool


@dataclass
class Search:
    """Bisection for one contender; ``precision``: between what is carried and what is not."""

    seconds: float
    tries: int
    precision: float
    start: float = 1.0
    trials: list[Trial] = field(default_factory=list)
    carried: float = 0.0
    failed: float | None = None
    _failures: int = 0

    @property
    def factor(self) -> float | None:
        """To try next; None when it is found."""
        if self.failed is None:
            return self.carried * STEP if self.carried else self.start
        if not self.carried:
            return self.failed / STEP if self.failed > LEAST else None
        if self.failed / self.carried <= self.precision:
            return None
        return math.sqrt(self.failed * self.carried)

    def step(self, served: Served, rates_hz: Mapping[str, float]) -> None:
        """One trial at ``factor``."""
        factor = self.factor
        assert factor is not None
        frames = factor * self.seconds * sum(rates_hz.values())
        found = served.trial(factor, self.seconds, int(LATE_SHARE * frames))
        self.trials.append(trial_of(factor, found))
        if not sum(found.late):
            self.carried, self._failures = factor, 0
            return
        self._failures += 1
        if self._failures == self.tries:
            self.failed, self._failures = factor, 0


def trial_of(factor: float, found: Outcome) -> Trial:
    """What is kept of every trial."""
    ended = sum(len(model) for model in found.latencies)
    return Trial(factor, sum(found.late), ended, found.stopped)
