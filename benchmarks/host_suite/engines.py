"""Engines as processes that take turns: who runs is alone, the others wait for a line."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np

from motet.benchmarks.worker_process import WorkerError, WorkerProcess
from motet.runtime.device import Array

WORKER = Path(__file__).with_name("worker.py")


class EngineError(WorkerError):
    """An engine could not load or run a model."""


@dataclass(frozen=True)
class Contender:
    """An engine to run, the file that it takes, and the Python that has it (None: this one).

    label: how results call it, as an engine may run more than one file. precision: what
    OpenVINO may compute in.
    """

    engine: str
    model: Path
    python: str | None = None
    label: str = ""
    precision: str = "f32"

    @property
    def name(self) -> str:
        """The label, or the engine."""
        return self.label or self.engine


class Engine:
    """A worker process with a contender's model loaded; ``settings`` says how it is run.

    Raises ``EngineError`` where it cannot be started, with the last lines that it wrote.
    """

    def __init__(self, contender: Contender, inputs: Path, threads: int) -> None:
        self.name = contender.name
        self._outputs = inputs.parent / f"{inputs.stem}-{self.name}-outputs.npz"
        asked = {
            "engine": contender.engine, "model": str(contender.model), "inputs": str(inputs),
            "threads": threads, "precision": contender.precision, "outputs": str(self._outputs),
        }  # fmt: skip
        errors = inputs.parent / f"{inputs.stem}-{self.name}.err"
        command = [contender.python or sys.executable, str(WORKER), json.dumps(asked)]
        self._worker = WorkerProcess(command, errors, self.name, error=EngineError)
        self.settings = str(self._worker.first()["settings"])

    def outputs(self) -> list[Array]:
        """What the first inference gave."""
        with np.load(self._outputs) as file:
            return [file[name] for name in file.files]

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def turn(self, seconds: float) -> list[float]:
        """Wall times of single inferences, in seconds, over about ``seconds``."""
        times: list[float] = json.loads(self._worker.ask(f"{seconds}"))
        return times

    def close(self) -> None:
        """End the process."""
        self._worker.close()


@dataclass
class Times:
    """Of one engine: its settings, what it computes, and wall times of inferences in seconds."""

    settings: str
    outputs: list[Array]
    seconds: list[float] = field(default_factory=list)


def take_turns(
    contenders: list[Contender], inputs: Path, threads: int, turns: int, seconds: float
) -> tuple[dict[str, Times], dict[str, str]]:
    """Let each run for ``seconds``, ``turns`` times.

    An engine that needs longer than a turn for an inference runs once in a turn.

    Returns
    -------
    Times by contender's name, and what those say that do not take the model.
    """
    with ExitStack() as stack:
        engines: dict[str, Engine] = {}
        refused: dict[str, str] = {}
        for one in contenders:
            try:
                engine = Engine(one, inputs, threads)
                engines[one.name] = stack.enter_context(engine)
            except EngineError as error:
                refused[one.name] = str(error)
        found = {name: Times(engine.settings, engine.outputs()) for name, engine in engines.items()}
        for turn in range(turns):
            order = list(engines.items())
            for name, engine in order if turn % 2 == 0 else reversed(order):
                found[name].seconds += engine.turn(seconds)
    return found, refused
