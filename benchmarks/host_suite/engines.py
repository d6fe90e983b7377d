"""Engines as processes that take turns: who runs is alone, the others wait for a line."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from motet.errors import MotetError
from motet.runtime.device import Array

WORKER = Path(__file__).with_name("worker.py")
LINES_OF_ERROR = 3


class EngineError(MotetError):
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
        asked = {
            "engine": contender.engine, "model": str(contender.model), "inputs": str(inputs),
            "threads": threads, "precision": contender.precision,
        }  # fmt: skip
        self._outputs = inputs.parent / f"{inputs.stem}-{self.name}-outputs.npz"
        self._errors = (inputs.parent / f"{inputs.stem}-{self.name}.err").open("w+")
        self._process = subprocess.Popen(
            [
                contender.python or sys.executable,
                str(WORKER),
                json.dumps(asked | {"outputs": str(self._outputs)}),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.settings = str(self._answer()["settings"])

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
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        times: list[float] = self._answer()
        return times

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._errors.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()[-LINES_OF_ERROR:]
        self._errors.close()
        raise EngineError(f"{self.name} ended: {' / '.join(lines) or 'it said nothing'}")


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
