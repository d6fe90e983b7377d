"""Contenders, and the processes that serve the models for them: who runs is alone, others wait."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from motet.benchmarks.camera.models import Camera
from motet.benchmarks.worker_process import WorkerError, WorkerProcess

_START = "import sys; sys.path.insert(0, sys.argv[1]); from camera import worker; worker.main()"
PATIENCE_SECONDS = 60
"""After which an engine that says nothing counts as one that hangs."""


class ContenderError(WorkerError):
    """An engine could not load or run the models."""


@dataclass(frozen=True)
class Contender:
    """An engine and the way in which it is run; ``engines`` says what the fields mean.

    group: contenders of which the best one stands for all. python: that has the engine.
    """

    group: str
    engine: str
    way: str
    threads: int | None
    workers: int = 1
    hint: str = ""
    python: str | None = None


class Outcome(msgspec.Struct, frozen=True):
    """A trial: late frames and latencies by model in seconds; stopped: before its end."""

    late: list[int]
    latencies: list[list[float]]
    wall_seconds: float
    cpu_seconds: float
    resident_bytes: int
    stopped: bool


class Served:
    """A contender's process, with the models loaded."""

    def __init__(self, contender: Contender, camera: Camera) -> None:
        self.contender = contender
        asked = {
            "engine": contender.engine, "way": contender.way, "threads": contender.threads,
            "workers": contender.workers, "hint": contender.hint, "bundle": str(camera.bundle),
            "models": camera.asked(),
        }  # fmt: skip
        errors = camera.bundle.with_name(f"{contender.engine}-{id(self)}.err")
        folder = str(Path(__file__).parent.parent)
        command = [contender.python or sys.executable, "-c", _START, folder, json.dumps(asked)]
        self._worker = WorkerProcess(
            command, errors, contender.engine, PATIENCE_SECONDS, ContenderError
        )
        self.settings = str(self._worker.first()["settings"])

    def trial(self, factor: float, seconds: float, allowed: int) -> Outcome:
        """An open loop at ``factor`` times the rates; ends when more than ``allowed`` are late."""
        asked = {"factor": factor, "seconds": seconds, "allowed": allowed}
        return msgspec.json.decode(self._ask(asked), type=Outcome)

    def batch(self, frames: Sequence[int]) -> float:
        """Seconds that so many frames of each model take, all there from the start."""
        return float(json.loads(self._ask({"frames": list(frames)}))["seconds"])

    def _ask(self, todo: dict[str, Any]) -> str:
        return self._worker.ask(json.dumps(todo))

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._worker.close()
