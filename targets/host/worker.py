"""A process that compiles kernels for the one that started it (``worker_pool``).

It says ``ready``, reads the number of a job from its standard input, a line each, compiles
``FOLDER/NUMBER.json`` to ``FOLDER/NUMBER.o`` and answers ``NUMBER done`` or ``NUMBER failed``.
It ends when its input does, so it cannot outlive the process that started it for longer than
one kernel; that process was then killed, and its folder is removed.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import msgspec

from motet.targets.host.machine import Machine
from motet.targets.quick_tvm import quick_imports, without_devices

READY = "ready"


def serve(folder: str, machine: str) -> None:
    """Compile what standard input asks for; ``machine`` is a ``Machine`` as JSON."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        _compile_all(Path(folder), msgspec.json.decode(machine, type=Machine), answers)
    except BrokenPipeError:  # nobody is left who waits for an answer
        pass
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compile_all(folder: Path, machine: Machine, answers: int) -> None:
    without_devices()
    with quick_imports():
        from motet.targets.host.object_code import compile_encoded

    os.write(answers, f"{READY}\n".encode())
    for line in sys.stdin:
        job = folder / line.strip()
        try:
            text = job.with_suffix(".json").read_text(encoding="utf-8")
            job.with_suffix(".o").write_bytes(compile_encoded(text, machine))
            outcome = "done"
        except Exception:  # compiled again, and so reported, by the process that asked
            outcome = "failed"
        os.write(answers, f"{job.name} {outcome}\n".encode())
