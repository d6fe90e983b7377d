"""Serves a set of models with one engine, alone in its process, and says which frames were late.

Started with JSON like
``{"engine": "onnxruntime", "way": "queue", "threads": 1, "workers": 2, "models": [
{"name": "a", "file": "a.onnx", "inputs": "a.npz", "rate_hz": 30}, ...]}``
it loads, prints a line of JSON, and answers each line of standard input:
``{"factor": f, "seconds": s, "allowed": n}`` is a trial at f times the rates, which ends when more
than ``allowed`` frames were late; ``{"frames": [n, ...]}`` is a batch of so many frames of each
model, all there from the start. ``processes`` starts it in any Python that has numpy and the
engine.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np

from .engines import ENGINES
from .open_loop import run_batch, run_trial

WARM_UP = 3
"""Frames of each model before anything is timed."""


def _arrays(path: str) -> dict[str, Any]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def main() -> None:
    """Serve until standard input ends."""
    asked = json.loads(sys.argv[-1])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what an engine prints is no answer
    inputs = [_arrays(model["inputs"]) for model in asked["models"]]
    rates = [model["rate_hz"] for model in asked["models"]]
    engine = ENGINES[asked["engine"]](asked, inputs)
    run_batch(engine, [WARM_UP] * len(rates))
    answers.write(json.dumps({"settings": engine.settings}) + "\n")
    for line in sys.stdin:
        todo = json.loads(line)
        if "frames" in todo:
            found = run_batch(engine, todo["frames"])
        else:
            found = run_trial(engine, rates, todo["factor"], todo["seconds"], todo["allowed"])
        answers.write(json.dumps(found) + "\n")
