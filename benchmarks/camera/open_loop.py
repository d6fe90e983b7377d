"""Frames at their moments, whatever the engine does with them: an open loop, and a batch.

Frame k of a model is released at k / (factor * rate) of absolute time, and is late where it ends
after its period. Who releases frames sleeps in between.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

LEAD_SECONDS = 0.05
"""From the call of a trial to its first frame."""


@dataclass(frozen=True, order=True)
class Frame:
    """One run that a camera asks for; moments of ``time.monotonic``."""

    due: float
    release: float
    model: int


Ended = Callable[[Frame], None]


class Engine(Protocol):
    """Models that run. ``start`` may block where every model has a releasing thread of its own."""

    settings: str
    blocks: bool

    def start(self, frame: Frame, ended: Ended) -> None:
        """Run the frame's model once; ``ended`` is called from any thread."""

    def settle(self, drop: bool) -> None:
        """Return when nothing runs; ``drop``: without doing what still waits."""


@dataclass
class Trial:
    """What became of the frames of one trial."""

    models: int
    allowed: int
    latencies: list[list[float]] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.latencies = [[] for _ in range(self.models)]
        self.late = [0] * self.models

    def ended(self, frame: Frame) -> None:
        """Count a frame that has just ended."""
        now = time.monotonic()
        self.latencies[frame.model].append(now - frame.release)
        if now > frame.due:
            self.late[frame.model] += 1
            if sum(self.late) > self.allowed:
                self.stop.set()

    def release(self, engine: Engine, frames: Iterator[Frame]) -> None:
        """Start each frame at its moment."""
        for frame in frames:
            left = frame.release - time.monotonic()
            if left > 0:
                time.sleep(left)
            if self.stop.is_set():
                return
            engine.start(frame, self.ended)


def frames_of(model: int, hertz: float, begin: float, seconds: float) -> Iterator[Frame]:
    """The frames of a model that are released within ``seconds``."""
    number = 0
    while number / hertz < seconds:
        yield Frame(begin + (number + 1) / hertz, begin + number / hertz, model)
        number += 1


def run_trial(
    engine: Engine, rates: list[float], factor: float, seconds: float, allowed: int
) -> dict[str, Any]:
    """An open loop of ``seconds`` at ``factor`` times the rates."""
    trial = Trial(len(rates), allowed)
    begin = time.monotonic() + LEAD_SECONDS
    streams = [frames_of(model, factor * rate, begin, seconds) for model, rate in enumerate(rates)]
    merged = [heapq.merge(*streams, key=lambda frame: (frame.release, frame.due))]
    releasing = [
        threading.Thread(target=trial.release, args=(engine, frames))
        for frames in (streams if engine.blocks else merged)
    ]
    cpu = time.process_time()
    for thread in releasing:
        thread.start()
    for thread in releasing:
        thread.join()
    engine.settle(trial.stop.is_set())
    wall = time.monotonic() - begin
    cpu = time.process_time() - cpu
    return {
        "late": trial.late, "latencies": trial.latencies, "wall_seconds": wall,
        "cpu_seconds": cpu, "resident_bytes": resident_bytes(), "stopped": trial.stop.is_set(),
    }  # fmt: skip


def run_batch(engine: Engine, counts: list[int]) -> dict[str, Any]:
    """All frames at once, dealt evenly: seconds until the last has ended."""
    trial = Trial(len(counts), sum(counts))
    begin = time.monotonic()
    order = sorted((k / n, model) for model, n in enumerate(counts) for k in range(n))
    dealt = [Frame(begin + 1e3 + place, begin, model) for place, model in order]
    models = range(len(counts))
    streams = [iter([f for f in dealt if f.model == m]) for m in models]
    releasing = [
        threading.Thread(target=trial.release, args=(engine, frames))
        for frames in (streams if engine.blocks else [iter(dealt)])
    ]
    for thread in releasing:
        thread.start()
    for thread in releasing:
        thread.join()
    engine.settle(False)
    return {"seconds": time.monotonic() - begin}


def resident_bytes() -> int:
    """Memory of this process that is in RAM now."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
