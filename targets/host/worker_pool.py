"""Processes that compile kernels: start them, keep them busy, end them.

Code generation holds the interpreter's lock, so threads do not help. The processes are
started by ``subprocess`` and not by ``multiprocessing`` (or a pool on top of it): that would
import the user's main script again, and a pool does not tell which kernel a process died of.
Kernels and objects pass through files of a temporary folder, so that neither side ever
waits for the other to empty a pipe; the pipes carry job numbers only.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.spawn import get_executable
from pathlib import Path
from types import TracebackType

import msgspec

from motet.runtime.errors import CompileError
from motet.targets.host.machine import Machine
from motet.targets.host.worker import READY

_AHEAD = 2
"""Jobs that a process has at once: it never waits while this one is busy itself."""

# The path is this process's, so that the worker finds the same packages, and first of all.
_PROGRAM = (
    "import sys; folder, machine, *sys.path = sys.argv[1:]; "
    "from motet.targets.host.worker import serve; serve(folder, machine)"
)


@dataclass(frozen=True)
class Job:
    """A kernel to compile: its symbol, and what ``object_code.encoded`` wrote."""

    symbol: str
    text: str


@dataclass(frozen=True)
class Answer:
    """What became of a job; ``data`` is the object file, None where compiling failed."""

    job: Job
    data: bytes | None


@dataclass
class _Worker:
    """One process: its jobs in the order in which it does them."""

    process: subprocess.Popen[bytes]
    ready: bool = False
    jobs: deque[tuple[int, Job]] = field(default_factory=deque)
    unread: bytes = b""

    @property
    def has_room(self) -> bool:
        return self.ready and len(self.jobs) < _AHEAD

    @property
    def input(self) -> int:
        assert self.process.stdin is not None
        return self.process.stdin.fileno()

    @property
    def output(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()


class WorkerPool:
    """A growing number of processes that compile kernels for ``machine``.

    A context: whatever happens inside it, no process and no file is left afterwards.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = msgspec.json.encode(machine).decode()
        self._folders = ExitStack()
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._numbers = 0

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.communicate()
        self._selector.close()
        self._folders.close()

    @cached_property
    def _folder(self) -> Path:
        """Where kernels and objects pass; made with the first process."""
        made = tempfile.TemporaryDirectory(prefix="motet-kernels-")
        return Path(self._folders.enter_context(made))

    @property
    def size(self) -> int:
        """Processes that were started."""
        return len(self._workers)

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return any(worker.jobs for worker in self._workers)

    def grow(self, size: int) -> None:
        """Start processes until there are ``size``; they get ready while this one goes on."""
        while len(self._workers) < size:
            worker = _Worker(_started(str(self._folder), self._machine))
            self._workers.append(worker)
            self._selector.register(worker.output, selectors.EVENT_READ, worker)

    def has_room(self) -> bool:
        """Whether ``submit`` may be called: not before a process is ready.

        So nobody waits for one that still imports TVM while this one could compile.
        """
        return any(worker.has_room for worker in self._workers)

    def submit(self, job: Job) -> None:
        """Give ``job`` to the process that has least to do."""
        ready = (worker for worker in self._workers if worker.has_room)
        worker = min(ready, key=lambda each: len(each.jobs))
        self._numbers += 1
        path = self._folder / f"{self._numbers}.json"
        path.write_text(job.text, encoding="utf-8")
        worker.jobs.append((self._numbers, job))
        try:
            os.write(worker.input, f"{self._numbers}\n".encode())
        except BrokenPipeError:
            raise _died(worker) from None

    def answers(self, wait: bool) -> list[Answer]:
        """Jobs that are finished; ``wait``: at least something has happened meanwhile.

        Raises ``CompileError`` where a process died; it names the kernel.
        """
        found: list[Answer] = []
        for key, _ in self._selector.select(None if wait else 0):
            found += self._read(key.data)
        return found

    def _read(self, worker: _Worker) -> list[Answer]:
        content = os.read(worker.output, 65536)
        if not content:
            raise _died(worker)
        *lines, worker.unread = (worker.unread + content).split(b"\n")
        texts = [line.decode() for line in lines]
        worker.ready = worker.ready or READY in texts
        return [self._answer(worker, text) for text in texts if text != READY]

    def _answer(self, worker: _Worker, line: str) -> Answer:
        number, job = worker.jobs.popleft()
        answered, outcome = line.split()
        assert int(answered) == number, "a worker answers in order"
        path = self._folder / f"{number}.o"
        return Answer(job, path.read_bytes() if outcome == "done" else None)


def _started(folder: str, machine: str) -> subprocess.Popen[bytes]:
    """A new worker. Signals of the terminal do not reach it: who started it ends it."""
    path = [entry for entry in sys.path if isinstance(entry, str)]
    return subprocess.Popen(
        [get_executable(), "-c", _PROGRAM, folder, machine, *path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )


def _died(worker: _Worker) -> CompileError:
    """The error for a process that ended by itself."""
    code = worker.process.wait()
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    what = f"kernel '{worker.jobs[0][1].symbol}'" if worker.jobs else "kernels"
    return CompileError(
        f"{what}: a process that compiles kernels {how}; where memory is short, compile with "
        "fewer jobs (--jobs 1)"
    )
