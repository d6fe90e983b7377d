"""The benchmark of ``submit`` measures what it says, on a network that takes no time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from motet.api import compile as compile_bundle
from motet.benchmarks.submit_overhead import low, measured, networks, spent


def network(path: Path) -> Path:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 64]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def test_a_network_that_takes_no_time(tmp_path: Path) -> None:
    [(name, file)] = networks(tmp_path, (network(tmp_path / "relu.onnx"),)).items()
    compile_bundle(file).save(tmp_path / "relu.motet")
    found = measured(name, tmp_path / "relu.motet", threads=1, runs=20, bursts=10)
    assert (found.network, found.threads, found.runs) == ("relu", 1, 20)
    assert 0 < found.run_seconds < found.submit_seconds  # all that submit does comes on top
    assert found.ratio > 1
    assert found.caller_cpu_seconds > 0
    assert found.worker_cpu_seconds > 0
    assert found.run_seconds < found.alone_seconds


def test_time_is_that_of_the_calling_thread() -> None:
    def busy() -> None:
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            pass

    found = spent(busy, time.pthread_getcpuclockid(threading.get_ident()))
    assert found.seconds >= 0.9 * found.caller
    assert found.caller >= 0.01
    assert found.worker >= 0.01  # the clock given is this thread's own


def test_low_is_a_low_quantile() -> None:
    assert low([float(n) for n in range(20, 0, -1)]) == 3
