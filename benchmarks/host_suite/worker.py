"""Times one engine on one model, alone in its process, whenever it is told to.

    python worker.py '{"engine": "onnxruntime", "model": "x.onnx", "threads": 2,
        "inputs": "x.npz", "outputs": "y.npz"}'

Runs once and writes the outputs, and prints a line of JSON that says what was loaded. Then
for each line of standard input, a number of seconds, it prints a line with the wall times of
single inferences in that time. An engine's spinning threads disturb whoever shares the
process: hence one of these per engine, and the other engines sleep at their standard input
meanwhile. It is run as a file and needs numpy and its engine alone, so that an engine may
live in a Python of its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

WARM_UP = 3
TRIAL_SECONDS = 0.3
Run = Callable[[], Any]
Arrays = Mapping[str, Any]


def motet_runner(model: str, inputs: Arrays, threads: int, _precision: str) -> tuple[Run, str]:
    """A bundle's one model, and how it is run."""
    import motet

    (session,) = motet.load(model, threads=threads).values()
    return lambda: session.run(None, inputs), f"motet {motet.__version__}"


def onnxruntime_runner(
    model: str, inputs: Arrays, threads: int, _precision: str
) -> tuple[Run, str]:
    """The best of two levels of optimisation; sequential, spinning allowed.

    ORT_ENABLE_ALL blocks the layout of convolutions, which small ones may lose by.
    """
    import onnxruntime

    found = []
    for level in ("ORT_ENABLE_ALL", "ORT_ENABLE_EXTENDED"):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        run = _running(session, inputs)
        found.append((sorted(measure(run, TRIAL_SECONDS))[0], level, run))
    _, level, run = min(found, key=lambda one: one[0])
    return run, f"onnxruntime {onnxruntime.__version__}, {level}, sequential, spinning"


def _running(session: Any, inputs: Arrays) -> Run:
    return lambda: session.run(None, inputs)


def openvino_runner(model: str, inputs: Arrays, threads: int, precision: str) -> tuple[Run, str]:
    """OpenVINO's CPU plugin, for latency; precision: what it may compute in, f32 or bf16."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    core = openvino.Core()
    network = core.read_model(model)
    network.reshape({name: list(array.shape) for name, array in inputs.items()})
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    version = openvino.__version__.partition("-")[0]
    outputs = len(network.outputs)

    def run() -> list[Any]:
        results = request.infer(inputs)
        return [results[number] for number in range(outputs)]

    used = request.get_compiled_model().get_property("INFERENCE_PRECISION_HINT").to_string()
    return run, f"OpenVINO {version}, CPU, asked for {precision}, computes in {used}, latency"


RUNNERS = {
    "motet": motet_runner,
    "onnxruntime": onnxruntime_runner,
    "openvino": openvino_runner,
}


def measure(run: Run, seconds: float) -> list[float]:
    """Wall times of single calls, in seconds, for about ``seconds``; at least one.

    Calls before that bring the caches back: ``WARM_UP`` of them, or as many as a quarter of
    the time begins.
    """
    end = time.perf_counter() + seconds / 4
    for _ in range(WARM_UP):
        run()
        if time.perf_counter() > end:
            break
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return times


def _arrays(results: list[Any]) -> list[Any]:
    """What an inference gave, in the model's order; what is no array (a list) is left out."""
    return [value for value in results if isinstance(value, np.ndarray)]


def main() -> None:
    """Serve one model until standard input ends."""
    asked = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what an engine prints is no answer
    with np.load(asked["inputs"]) as file:
        inputs = {name: file[name] for name in file.files}
    runner = RUNNERS[asked["engine"]]
    run, settings = runner(asked["model"], inputs, asked["threads"], asked.get("precision", "f32"))
    np.savez(asked["outputs"], *_arrays(run()))
    print(json.dumps({"settings": settings}), file=answers)
    for line in sys.stdin:
        print(json.dumps(measure(run, float(line))), file=answers)


if __name__ == "__main__":
    main()
