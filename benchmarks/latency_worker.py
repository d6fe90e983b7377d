"""Times one engine on one model, alone in its process; prints the times as JSON.

An engine's spinning threads disturb whoever shares the process, so ``host_latency``
starts one of these per engine and round.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import motet

WARM_UP = 5


def motet_runner(bundle: str, threads: int) -> Callable[[], Any]:
    """A call that runs the bundle's one model on random inputs."""
    session = motet.load(bundle, threads=threads)
    (model,) = session.values()
    inputs = model.random_inputs()
    return lambda: model.run(None, inputs)


def onnxruntime_runner(bundle: str, threads: int) -> Callable[[], Any]:
    """The same in onnxruntime, from the ONNX file that the bundle came from."""
    import onnxruntime

    motet_session = motet.load(bundle, threads=1)
    (model,) = motet_session.values()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    path = str(motet_session.bundle.source_path(model.name))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = model.random_inputs()
    return lambda: session.run(None, inputs)


def sgemm_runner(_bundle: str, _threads: int) -> Callable[[], Any]:
    """Numpy's matrix product of 1024 x 1024: how fast this machine multiplies in fp32."""
    left = np.ones((1024, 1024), np.float32)
    return lambda: left @ left


RUNNERS = {"motet": motet_runner, "onnxruntime": onnxruntime_runner, "sgemm": sgemm_runner}


def measure(run: Callable[[], Any], seconds: float) -> list[float]:
    """Wall times of single calls, in seconds, for about ``seconds``."""
    for _ in range(WARM_UP):
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < WARM_UP:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    engine, bundle, threads, seconds = sys.argv[1:]
    json.dump(measure(RUNNERS[engine](bundle, int(threads)), float(seconds)), sys.stdout)
