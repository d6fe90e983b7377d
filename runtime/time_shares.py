"""The share of a machine's time that each model may have: a bucket that leaks, for each of them.

What a model spends fills its bucket, which leaks at its share of the machine's time; a model
whose bucket holds more than ``WINDOW_SECONDS`` of its share is over it, and gives way to all that
are not. So in any time T it has at most ``share * machines * (T + WINDOW_SECONDS)`` and the stage
that it had begun, as long as others want the machine; what nobody else wants it may have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

WINDOW_SECONDS = 0.1
"""Of its share that a model may have at once."""


@dataclass
class _Bucket:
    rate: float
    room: float
    level: float = 0.0
    since: float = 0.0

    def at(self, now: float) -> float:
        """Leak until ``now``; what it holds."""
        self.level = max(0.0, self.level - self.rate * (now - self.since))
        self.since = now
        return self.level


class TimeShares:
    """Buckets of the models that have a share; not for several threads at once.

    shares: model -> 0 to 1 of all machines. machines: workers, or 1. second: ticks of one, in the
    clock that ``now`` and ``spent`` are of.
    """

    def __init__(self, shares: Mapping[str, float], machines: int = 1, second: float = 1.0) -> None:
        self._buckets = {
            model: _Bucket(share * machines, share * machines * WINDOW_SECONDS * second)
            for model, share in shares.items()
        }

    def __bool__(self) -> bool:
        return bool(self._buckets)

    def __contains__(self, model: str) -> bool:
        return model in self._buckets

    def spend(self, model: str, spent: float, now: float) -> None:
        """``model`` has had ``spent`` of a machine's time, until ``now``."""
        if (bucket := self._buckets.get(model)) is not None:
            bucket.at(now)
            bucket.level += spent

    def is_over(self, model: str, now: float) -> bool:
        """Whether ``model`` has had more than its share lately."""
        bucket = self._buckets.get(model)
        return bucket is not None and bucket.at(now) > bucket.room

    def left(self, model: str, now: float) -> float:
        """Time on one machine after which ``model``, which has one, is over its share; or inf."""
        bucket = self._buckets.get(model)
        if bucket is None or bucket.rate >= 1:
            return float("inf")
        return max(0.0, bucket.room - bucket.at(now)) / (1 - bucket.rate)

    def back(self, model: str, now: float) -> float:
        """Time after which ``model``, which is over its share, is so no longer."""
        bucket = self._buckets[model]
        return max(0.0, bucket.at(now) - bucket.room) / bucket.rate
