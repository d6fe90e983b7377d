"""A worker in a process of its own, which answers each line with a line of JSON.

Benchmarks keep an engine in each and let them take turns: who runs is alone, the others wait for a
line. ``command`` starts it, in any Python.
"""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from motet.errors import MotetError

LINES_OF_ERROR = 3


class WorkerError(MotetError):
    """A worker could not begin, or ended before its time."""


class WorkerProcess:
    """The process. errors: the file that its standard error goes to. name: what messages call it.

    patience: seconds after which a worker that says nothing counts as one that hangs; None: it may
    take as long as it takes. Raises ``WorkerError``, with the last lines that it wrote, where it
    ends; ``error`` is the class that is raised.
    """

    def __init__(
        self,
        command: Sequence[str],
        errors: Path,
        name: str,
        patience: float | None = None,
        error: type[WorkerError] = WorkerError,
    ) -> None:
        self.name = name
        self._patience, self._error = patience, error
        self._errors = errors.open("w+")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def ask(self, line: str) -> str:
        """The answer to ``line``."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> str:
        """The next line that it says."""
        stdout = self._process.stdout
        assert stdout is not None
        if self._patience is not None and not select.select([stdout], [], [], self._patience)[0]:
            self._process.kill()
        line = stdout.readline()
        if line:
            return line
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()[-LINES_OF_ERROR:]
        self._errors.close()
        raise self._error(f"{self.name} ended: {' / '.join(lines) or 'it said nothing'}")

    def first(self) -> Any:
        """What it says of itself when it is ready."""
        return json.loads(self.answer())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._errors.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
