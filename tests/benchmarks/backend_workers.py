"""What misbehaving workers do with a case; at a module's top so that a worker finds it."""

from __future__ import annotations

import os
import signal
import time

from motet.benchmarks.onnx_backend_tests.subject import Outcome, Payload


def badly(payload: Payload) -> Outcome:
    """Die, hang, or pass: as the tolerance says, which is all that tells the cases apart."""
    if payload.rtol == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if payload.rtol == 2:
        time.sleep(600)
    return Outcome("passed", seconds=0.1, fixed=("k",))
