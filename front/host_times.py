"""How long the host takes for each operator of a bundle, and how that is known.

``formula``: that of all estimates of the host (``targets.host.unit_time``), for one thread of a
common machine: the same numbers everywhere.
``measured``: medians of every kernel call in its place in the run, now and on this machine.
``FILE.json``: what ``motet bench --profile --json`` printed before, here or elsewhere.
``none``: no time at all.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from motet.runtime.bundle import Bundle
from motet.runtime.device import Array, ProgramCounts
from motet.runtime.errors import SpecError
from motet.runtime.program import Instruction, Kernel, Program, registers_of
from motet.runtime.session import ModelSession, Session
from motet.runtime.shapes import is_static
from motet.targets.cost import Cost
from motet.targets.host import unit_time
from motet.targets.host.machine import machine_for

FORMULA, MEASURED, NONE = "formula", "measured", "none"

COMMON = "x86-64-v3"
"""Of the formula: a machine of which nothing else is known, the same wherever it is asked."""

MEASURING_SECONDS = 1.0
FEWEST_RUNS = 5
"""Of each model, when measured."""


def formula(macs: int, moved: int) -> Cost:
    """The time of an operator by what it multiplies and the bytes that it moves, on one thread."""
    return unit_time.estimate(unit_time.Work(macs, moved), machine_for(COMMON), 1)


def bytes_of(program: Program, step: Instruction) -> int:
    """Bytes of the tensors that an instruction reads and writes; 0 where sizes are open."""
    read, written = registers_of(step)
    registers = [program.registers[number] for number in (*read, *written)]
    if not all(is_static(register.shape) for register in registers):
        return 0
    return sum(
        math.prod(int(str(size)) for size in register.shape) * np.dtype(register.dtype).itemsize
        for register in registers
    )


def by_formula(bundle: Bundle) -> dict[str, Cost]:
    """The host's operators of a bundle, by operator's name."""
    found = {}
    for program in bundle.programs.values():
        for step in program.instructions:
            if isinstance(step, Kernel):
                who = program.operators[step.operator]
                macs = who.macs if isinstance(who.macs, int) else 0
                found[who.op] = formula(macs, bytes_of(program, step))
    return found


def measured(bundle: Bundle, threads: int | None = None) -> dict[str, Cost]:
    """The host's operators of a bundle, timed on random inputs; open sizes are 1.

    Programs of the array are left out: their outputs stay as they are. An operator that does
    not run, on another branch, is not in the answer.
    """
    accelerator = _NoArray() if bundle.array_programs else None
    found: dict[str, Cost] = {}
    for model in Session(bundle, accelerator, threads).values():
        found |= _timed(model)
    return found


def _timed(model: ModelSession) -> dict[str, Cost]:
    times: dict[int, list[float]] = {}
    with model.bound() as frame:
        frame.run()
        end, runs = time.perf_counter() + MEASURING_SECONDS, 0
        while runs < FEWEST_RUNS or (runs < 100 * FEWEST_RUNS and time.perf_counter() < end):
            runs += 1
            for step, taken in frame.run_timed():
                if isinstance(step, Kernel):
                    times.setdefault(step.operator, []).append(taken)
    names = [who.op for who in model.program.operators]
    return {names[n]: Cost(median(taken), "measured") for n, taken in sorted(times.items())}


class _NoArray:
    """An accelerator that computes nothing and takes no time."""

    clock_hz = 1.0

    def load(self, name: str, program: bytes) -> None:
        """Nothing to keep."""

    def invoke(self, name: str, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Leaves the outputs as they are."""

    def counts(self, name: str) -> ProgramCounts:
        """Nobody asks."""
        raise AssertionError(name)


def from_profile(path: str) -> dict[str, Cost]:
    """What ``motet bench --profile --json`` printed; raises ``SpecError`` for anything else."""
    try:
        profiles: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        calls = [call for profile in profiles for call in profile["calls"]]
        return {str(c["op"]): Cost(_positive(c["median_seconds"]), "measured") for c in calls}
    except OSError as error:
        raise SpecError(f"--host {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SpecError(
            f"--host {path}: give what 'motet bench BUNDLE --profile --json' prints, or one of "
            f"{FORMULA}, {MEASURED}, {NONE}"
        ) from error


def _positive(value: Any) -> float:
    if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(value)
    return float(value)
