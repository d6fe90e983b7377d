"""Loads the models into an engine, in one of the ways in which people run it.

Asked: ``engine``, ``way`` (``queue``: an earliest-deadline-first queue in front, with ``workers``;
``own``: as the engine has it; ``serial``), ``threads`` of a run, and a ``hint`` for OpenVINO.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from .open_loop import Engine
from .serving import AsyncQueues, OwnThreads, Queued, Submitted

LEVEL_TRIALS = 12
"""Runs that decide between two levels of onnxruntime's optimisation."""


def motet_engine(asked: dict[str, Any], inputs: list[Any]) -> Engine:
    """A bundle of all models: ``submit``, or one model after another."""
    import motet

    threads, workers = asked["threads"], asked["workers"]
    session = motet.load(asked["bundle"], threads=threads, policy="edf")
    names = [model["name"] for model in asked["models"]]
    pairs = list(zip(names, inputs, strict=True))
    runs = [_bound(session.run, name, arrays) for name, arrays in pairs]
    if asked["way"] == "serial":
        return Queued(runs, 1, f"{threads} threads, one run after another")
    session.configure(workers=workers, queue_size=10_000)
    return Submitted(session, names, inputs, f"submit, edf, {workers} workers, {threads} threads")


def _bound(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: function(*arguments)


def onnxruntime_engine(asked: dict[str, Any], inputs: list[Any]) -> Engine:
    """A session for each model; threads None: as it comes, 0 changed."""
    runs, levels = [], []
    for model, arrays in zip(asked["models"], inputs, strict=True):
        run, level = _onnxruntime_run(model["file"], arrays, asked["threads"])
        runs.append(run)
        levels.append(level)
    if asked["threads"] is None:
        return OwnThreads(runs, "defaults, a Python thread for each model")
    made = f"{asked['threads']} threads each, no spinning, {'/'.join(levels)}"
    if asked["way"] == "queue":
        return Queued(runs, asked["workers"], f"edf queue, {asked['workers']} workers, {made}")
    return OwnThreads(runs, f"a Python thread for each model, {made}")


def _onnxruntime_run(file: str, inputs: Any, threads: int | None) -> tuple[Callable[[], Any], str]:
    """With a number of threads: the quicker of two levels of optimisation, and no spinning."""
    import onnxruntime

    found = []
    for level in ("ALL",) if threads is None else ("ALL", "EXTENDED"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.graph_optimization_level = getattr(
                onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
            )
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        run = _bound(session.run, None, inputs)
        found.append((_least_seconds(run), level, run))
    _, level, run = min(found, key=lambda one: one[0])
    return run, level


def _least_seconds(run: Callable[[], Any]) -> float:
    times = []
    for _ in range(LEVEL_TRIALS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def openvino_engine(asked: dict[str, Any], inputs: list[Any]) -> Engine:
    """Its own queue for each model, or the same queue as onnxruntime's in front."""
    import openvino

    way, threads, hint = asked["way"], asked["threads"], asked["hint"]
    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": hint,
        # Pinned, the threads of all models would share the first CPUs.
        "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    compiled = []
    for model, arrays in zip(asked["models"], inputs, strict=True):
        network = core.read_model(model["file"])
        network.reshape({name: list(array.shape) for name, array in arrays.items()})
        compiled.append(core.compile_model(network, "CPU", settings))
    made = f"{hint.lower()}, {threads} threads"
    if way == "own":
        queues = [openvino.AsyncInferQueue(model) for model in compiled]
        return AsyncQueues(queues, inputs, f"AsyncInferQueue, {made}")
    runs = [_openvino_run(model, arrays) for model, arrays in zip(compiled, inputs, strict=True)]
    return Queued(runs, asked["workers"], f"edf queue, {asked['workers']} workers, {made}")


def _openvino_run(model: Any, inputs: Any) -> Callable[[], Any]:
    """A request for each thread that runs the model."""
    local = threading.local()

    def run() -> Any:
        if not hasattr(local, "request"):
            local.request = model.create_infer_request()
        return local.request.infer(inputs, share_inputs=True)

    return run


ENGINES = {
    "motet": motet_engine, "onnxruntime": onnxruntime_engine, "openvino": openvino_engine,
}  # fmt: skip
