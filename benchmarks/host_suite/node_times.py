"""What onnxruntime's own profiler says of each node, in a process of its own.

    python -m motet.benchmarks.host_suite.node_times x.onnx x.npz THREADS SECONDS

Prints JSON: node -> operator and seconds. The profiler counts whole microseconds, so a time
is the mean over runs, of the quicker three quarters of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

KEPT = 0.75
_SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class NodeTime:
    """A node of the graph as onnxruntime optimised it."""

    node: str
    op_type: str
    seconds: float


def node_times(model: Path, inputs: Path, threads: int, seconds: float) -> list[NodeTime]:
    """Run the profiler on ``model`` for about ``seconds``; nodes in the order of the run."""
    command = [sys.executable, "-m", __name__, str(model), str(inputs), str(threads), str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return [NodeTime(**one) for one in json.loads(done.stdout)]


def origin(node: str, model: onnx.ModelProto) -> str | None:
    """The node of ``model`` that onnxruntime's ``node`` came from; None for one of its own.

    A fused node is called after a node that it replaces, or after the tensor that it gives,
    with what did it behind.
    """
    known: dict[str, str] = {out: one.name for one in model.graph.node for out in one.output}
    known |= {one.name: one.name for one in model.graph.node}
    name = node
    while name:
        if name in known:
            return known[name]
        cut = max(name.rfind(mark) for mark in "_/ ")
        name = name[: max(cut, 0)]
    return None


def _profile(model: str, inputs: str, threads: int, seconds: float) -> list[NodeTime]:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder, np.load(inputs) as file:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        arrays = {name: file[name] for name in file.files}
        end = time.perf_counter() + seconds
        runs = 0
        while runs < 4 or time.perf_counter() < end:
            session.run(None, arrays)
            runs += 1
        events = json.loads(Path(session.end_profiling()).read_text())
    return _means(events)


def _means(events: list[dict[str, Any]]) -> list[NodeTime]:
    found: dict[str, tuple[str, list[float]]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            name = event["name"].removesuffix(_SUFFIX)
            kept = found.setdefault(name, (event["args"]["op_name"], []))
            kept[1].append(1e-6 * event["dur"])
    return [
        NodeTime(name, op, float(np.mean(sorted(times)[: max(1, int(KEPT * len(times)))])))
        for name, (op, times) in found.items()
    ]


if __name__ == "__main__":
    answers = os.dup(1)
    os.dup2(2, 1)
    times = _profile(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    os.write(answers, json.dumps([asdict(one) for one in times]).encode())
