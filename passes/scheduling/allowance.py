"""What a search may spend: counted steps, which are the same on every machine, or seconds.

A step is an ending that is looked at; asking a cost for a stage is worth ``ASKING`` of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

ASKING = 10
"""Steps that a question to a cost is worth: 10 to 50 microseconds, beside 1 to 3 for an ending."""

Spend = Callable[[int], None]
"""Counts steps; raises OutOfTimeError when there are no more."""


class OutOfTimeError(Exception):
    """The allowance of a search is used up; never leaves this package."""


def boundless(_: int) -> None:
    """Spend what is not counted."""


@dataclass
class Meter:
    """Steps taken so far."""

    spent: int = 0


@dataclass(frozen=True)
class Allowance:
    """Until when a search may go on.

    until: a moment of ``time.monotonic``, None for never. steps: what ``meter`` may come to.
    """

    until: float | None = None
    steps: float = inf
    meter: Meter = field(default_factory=Meter)

    @classmethod
    def of(cls, seconds: float | None, steps: int | None) -> Allowance:
        """From now on; None is no bound."""
        until = None if seconds is None else time.monotonic() + seconds
        return cls(until, inf if steps is None else steps)

    @property
    def left(self) -> float:
        """Steps, whatever time is left."""
        return self.steps - self.meter.spent

    def spend(self, steps: int) -> None:
        """Count ``steps``; raise OutOfTimeError where that is too many, or it is too late."""
        self.meter.spent += steps
        if self.left < 0 or (self.until is not None and time.monotonic() >= self.until):
            raise OutOfTimeError

    def ask(self) -> None:
        """Spend what asking a cost is worth."""
        self.spend(ASKING)

    def part(self, share: float) -> Allowance:
        """A share, from 0 to 1, of what is left; what it spends is spent of the whole."""
        until = self.until
        if until is not None:
            now = time.monotonic()
            until = now + max(0.0, until - now) * share
        return Allowance(until, self.meter.spent + max(0.0, self.left) * share, self.meter)
