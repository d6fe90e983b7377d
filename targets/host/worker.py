"""A process that compiles kernels for the one that started it (``worker_pool``).

It reads the number of a job from its standard input, a line each, compiles
``FOLDER/NUMBER.json`` to ``FOLDER/NUMBER.o`` and answers ``NUMBER done`` or ``NUMBER failed``.
It ends when its input does, so it cannot outlive the process that started it for longer than
one kernel.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

import msgspec

from motet.targets.host.machine import Machine

STARTED = "started"


def serve(folder: str, machine: str) -> None:
    """Compile what standard input asks for; ``machine`` is a ``Machine`` as JSON."""
    answers = _own_stdout()
    from motet.targets.host.object_code import compile_encoded

    built_for = msgspec.json.decode(machine, type=Machine)
    _say(answers, STARTED)
    for line in sys.stdin:
        job = Path(folder, line.strip())
        try:
            text = job.with_suffix(".json").read_text(encoding="utf-8")
            job.with_suffix(".o").write_bytes(compile_encoded(text, built_for))
        except Exception:  # compiled again, and so reported, by the process that asked
            _say(answers, f"{job.name} failed")
        else:
            _say(answers, f"{job.name} done")


def _own_stdout() -> TextIO:
    """Standard output for answers alone: what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _say(answers: TextIO, line: str) -> None:
    try:
        print(line, file=answers, flush=True)
    except BrokenPipeError:  # nobody is left who waits for the answer
        os._exit(0)
