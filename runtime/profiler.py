"""Where a run's time goes: every kernel call of a model, timed in its place in the run.

Calls run one after another in the program's order on the arena's own buffers, so a call
finds the caches as the run leaves them. Only wall time is measured: of an array's programs
it is the simulator's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from motet.runtime.model import ModelSession
from motet.runtime.program import ArrayCall, Kernel, Operator
from motet.runtime.vm import Frame

DEFAULT_SECONDS = 3.0


@dataclass(frozen=True)
class CallProfile:
    """One operator's call, over the runs of a profile.

    symbol: of the kernel or array program; bytes: of all tensors that it reads and writes,
    weights too, each counted once; shapes: of those tensors in the kernel's order, outputs
    last; median_seconds, minimum_seconds: wall time; share: of the sum of all calls' medians,
    0 to 1.
    """

    op: str
    kind: str
    symbol: str
    onnx_nodes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    macs: int
    bytes: int
    median_seconds: float
    minimum_seconds: float
    share: float

    @property
    def gflops(self) -> float:
        """1e9 floating-point operations a second at the median: two for each MAC."""
        return 2e-9 * self.macs / self.median_seconds if self.median_seconds else 0.0

    @property
    def gigabytes_per_second(self) -> float:
        """1e9 bytes read and written a second at the median."""
        return 1e-9 * self.bytes / self.median_seconds if self.median_seconds else 0.0


@dataclass(frozen=True)
class Profile:
    """A model's calls in the order of the run, and what they sum to.

    run_seconds: median wall time of runs that nothing watches, without copies of inputs
    and outputs; the calls' sum is more by what timing costs, about 0.2 us a call.
    """

    model: str
    runs: int
    run_seconds: float
    calls: tuple[CallProfile, ...]

    @property
    def calls_seconds(self) -> float:
        """Sum of the calls' medians."""
        return sum(call.median_seconds for call in self.calls)


def profile(
    model: ModelSession,
    inputs: Mapping[str, Any] | None = None,
    *,
    warmup: int = 3,
    iterations: int | None = None,
    duration: float | None = DEFAULT_SECONDS,
) -> Profile:
    """Time every call of ``model`` over runs on ``inputs``; random ones where None.

    Watched and plain runs take turns for ``duration`` seconds or ``iterations`` turns,
    whichever ends first, after ``warmup`` plain ones; at least one turn. A call that an
    ``If`` skips in some runs has the median of those that it ran in.
    """
    found: dict[int, _Timed] = {}
    plain: list[float] = []
    with model.bound(inputs) as frame:
        for _ in range(warmup):
            frame.run()
        end = None if duration is None else time.perf_counter() + duration
        while not plain or (
            (iterations is None or len(plain) < iterations)
            and (end is None or time.perf_counter() < end)
        ):
            plain.append(_seconds(frame))
            for instruction, seconds in frame.run_timed():
                assert isinstance(instruction, (Kernel, ArrayCall))
                found.setdefault(instruction.operator, _Timed(instruction)).seconds.append(seconds)
        total = sum(median(timed.seconds) for timed in found.values())
        operators = model.program.operators
        calls = [_call(operators[n], found[n], frame, total) for n in sorted(found)]
    return Profile(model.name, len(plain), median(plain), tuple(calls))


@dataclass
class _Timed:
    """An instruction and its wall times."""

    instruction: Kernel | ArrayCall
    seconds: list[float] = field(default_factory=list)


def _seconds(frame: Frame) -> float:
    started = time.perf_counter()
    frame.run()
    return time.perf_counter() - started


def _call(who: Operator, timed: _Timed, frame: Frame, total: float) -> CallProfile:
    instruction = timed.instruction
    read, written = frame.operands(instruction)
    arrays = [*read, *written]
    middle = median(timed.seconds)
    return CallProfile(
        op=who.op,
        kind=who.kind,
        symbol=instruction.symbol if isinstance(instruction, Kernel) else instruction.program,
        onnx_nodes=who.onnx_nodes,
        shapes=tuple(array.shape for array in arrays),
        macs=frame.macs(instruction.operator),
        bytes=sum(int(array.nbytes) for array in arrays),
        median_seconds=middle,
        minimum_seconds=min(timed.seconds),
        share=middle / total if total else 0.0,
    )
