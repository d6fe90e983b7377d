"""How a session queues what is submitted to it: settings, and what a late run is told as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, get_args

from motet.runtime.errors import InputError
from motet.runtime.policies import DEFAULT_POLICY, policy_named

WhenFull = Literal["wait", "raise"]


@dataclass(frozen=True)
class Miss:
    """A run that did not end by its deadline.

    late_seconds: from the deadline until it was known: the run's end, or the moment it was given
    up. outcome: ``finished``, ``dropped``, ``timed_out`` or ``failed``.
    """

    model: str
    late_seconds: float
    outcome: str


@dataclass(frozen=True)
class Queueing:
    """What happens to runs that are submitted.

    Attributes
    ----------
    policy: ``fcfs``, ``priority`` or ``edf`` (``policies``).
    workers: runs at once; None: the threads of a kernel call. Workers at work share them.
    queue_size: runs of one model that may wait to begin; no model fills another's queue.
    when_full: ``wait`` (back-pressure: ``submit`` blocks, at most for its ``timeout``) or
        ``raise`` (``QueueFullError`` at once).
    drop_late: give up a run whose deadline passes before it has begun.
    on_miss: called with every ``Miss``, in one of the session's threads, which it holds up.
    """

    policy: str = DEFAULT_POLICY
    workers: int | None = None
    queue_size: int = 64
    when_full: WhenFull = "wait"
    drop_late: bool = False
    on_miss: Callable[[Miss], None] | None = None

    def __post_init__(self) -> None:
        policy_named(self.policy)
        for key, value in (("workers", self.workers), ("queue_size", self.queue_size)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InputError(f"{key} is {value!r}: it is a whole number from 1 on")
        if self.when_full not in get_args(WhenFull):
            raise InputError(f"when_full is {self.when_full!r}: it is 'wait' or 'raise'")
        if not isinstance(self.drop_late, bool):
            raise InputError(f"drop_late is {self.drop_late!r}: it is True or False")
        if self.on_miss is not None and not callable(self.on_miss):
            raise InputError(f"on_miss is {self.on_miss!r}: it is called with a Miss")


KEYS = tuple(field.name for field in fields(Queueing))
