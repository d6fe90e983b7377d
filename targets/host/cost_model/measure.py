"""Measures points of problems: kernels compiled together, timed in a helper process.

A kernel that crashes ends the helper and no more: its problem gives no measurement, and
another helper goes on with the next one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from multiprocessing.spawn import get_executable
from pathlib import Path
from types import TracebackType

import msgspec

from motet.runtime.progress import Show, silent
from motet.targets.host.build import c_compiler, link
from motet.targets.host.cost_model.dataset import Sample
from motet.targets.host.cost_model.prepared import Candidates, Prepared
from motet.targets.host.cost_model.stopwatch import Contest, Request
from motet.targets.host.cost_model.units import arguments_of, kernel_of
from motet.targets.host.kernel_cache import KernelCache
from motet.targets.host.kernel_objects import KernelObjects
from motet.targets.host.lower_unit import LoweredUnit
from motet.targets.host.machine import Machine

CONTEST_SECONDS = 1.0
"""When a problem's rounds stop; every point has been run four times by then at least."""
_WAIT_SECONDS = 120.0

# The path is this process's, so that the helper finds the same packages, and first of all.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from motet.targets.host.cost_model.stopwatch import serve; serve()"
)


class Measurer:
    """Compiles and times kernels for ``machine``; a context, which ends what it started.

    jobs: processes that compile; None for one per usable CPU. cache: where compiled kernels
    are kept. warn: told of what could not be measured.
    """

    def __init__(
        self,
        machine: Machine,
        jobs: int | None = None,
        cache: KernelCache | None = None,
        warn: Show = silent,
    ) -> None:
        self._machine, self._jobs, self._cache, self._warn = machine, jobs, cache, warn
        self._helper: subprocess.Popen[bytes] | None = None
        self._resources = ExitStack()

    def __enter__(self) -> Measurer:
        made = tempfile.TemporaryDirectory(prefix="motet-measure-")
        self._folder = Path(self._resources.enter_context(made))
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._end_helper()
        self._resources.close()

    def measure(
        self, batch: Sequence[Candidates], threads: int, seconds: float = CONTEST_SECONDS
    ) -> list[Sample | None]:
        """Times of every point of ``batch``, in its order; None where a kernel failed.

        Raises ``EnvironmentLackError`` where no C compiler can be run, ``CompileError`` where
        a process that compiles died.
        """
        return self.run(self.prepared(batch, seconds), threads)

    def prepared(self, batch: Sequence[Candidates], seconds: float = CONTEST_SECONDS) -> Prepared:
        """The kernels of ``batch``, ready to be timed; the next library takes its place.

        Raises what ``measure`` does.
        """
        c_compiler()
        lowered = [self._lowered(candidates) for candidates in batch]
        contests = tuple(
            _contest(c, n, k, seconds) for n, (c, k) in enumerate(zip(batch, lowered, strict=True))
        )
        return Prepared(tuple(batch), contests, self.library(lowered))

    def run(self, prepared: Prepared, threads: int) -> list[Sample | None]:
        """Times of what was prepared, here or by another process."""
        found = self.timed(prepared.library, threads, prepared.contests)
        return [
            None if times is None else Sample(c.problem, threads, c.points, tuple(times))
            for c, times in zip(prepared.batch, found, strict=True)
        ]

    def _lowered(self, candidates: Candidates) -> list[LoweredUnit]:
        return [kernel_of(candidates.problem, p, self._machine) for p in candidates.points]

    def library(self, kernels: Sequence[Sequence[LoweredUnit]]) -> Path:
        """A shared object of the kernels of every contest, each under its ``symbol``.

        The next library takes its place.
        """
        with KernelObjects(self._machine, self._jobs, self._cache, warn=self._warn) as objects:
            for number, units in enumerate(kernels):
                for index, unit in enumerate(units):
                    objects.add(self.symbol(number, index), unit.func)
            content = link(objects.finish())
        path = self._folder / "kernels.so"
        path.write_bytes(content)
        return path

    @staticmethod
    def symbol(contest: int, kernel: int) -> str:
        """The name of a kernel by its place."""
        return f"kernel_{contest}_{kernel}"

    def timed(
        self, library: Path, threads: int, contests: Sequence[Contest]
    ) -> list[list[float] | None]:
        """What the helper finds; where it dies of a problem, the next helper skips that one."""
        found: list[list[float] | None] = []
        while len(found) < len(contests):
            found += self._answers(Request(str(library), threads, tuple(contests[len(found) :])))
            if len(found) < len(contests):
                self._warn(f"a kernel crashed: {next(iter(contests[len(found)].kernels))}")
                self._end_helper()
                found.append(None)
        return found

    def _answers(self, request: Request) -> list[list[float] | None]:
        """Answers to ``request`` as far as the helper lives."""
        helper = self._helper = self._helper or _started()
        assert helper.stdin is not None
        assert helper.stdout is not None
        found: list[list[float] | None] = []
        try:
            helper.stdin.write(msgspec.json.encode(request) + b"\n")
            helper.stdin.flush()
        except BrokenPipeError:
            return found
        for _ in request.contests:
            line = helper.stdout.readline()
            if not line.endswith(b"\n"):
                break
            found.append(msgspec.json.decode(line, type=list[float]))
        return found

    def _end_helper(self) -> None:
        if self._helper is not None:
            self._helper.kill()
            self._helper.communicate()
            self._helper = None


def _contest(
    candidates: Candidates, number: int, kernels: Sequence[LoweredUnit], seconds: float
) -> Contest:
    named = {}
    for index, kernel in enumerate(kernels):
        named[Measurer.symbol(number, index)] = tuple(arguments_of(candidates.problem, kernel))
    return Contest(named, seconds)


def _started() -> subprocess.Popen[bytes]:
    """A new helper. Signals of the terminal do not reach it: who started it ends it."""
    path = [entry for entry in sys.path if isinstance(entry, str)]
    return subprocess.Popen(
        [get_executable(), "-c", _PROGRAM, *path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
