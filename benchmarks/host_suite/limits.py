"""What no program can beat on this machine: fp32 arithmetic and reading from memory.

Two kernels that TVM makes as it makes Motet's: multiply-adds on registers, of enough
independent chains to fill the units, and a sum over an array that no cache holds. Each runs
with the threads that networks run with; the best of many calls counts. Where the product of
two matrices in numpy is quicker than the first kernel, it sets the peak.

    speed of light = max(operations / peak, bytes / bandwidth)

Operations are two for each multiply-accumulate of the ONNX model (an algorithm with fewer,
as Winograd's, may pass the bound); bytes are weights, inputs and outputs, once each. Weights
that stay in the cache between runs are read quicker than that, and a run reads few rows of
an embedding's table, which counts wholly.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm_ffi
from tvm import tirx

from motet.runtime.kernels import KernelLibrary
from motet.runtime.memory import aligned_bytes, view
from motet.targets.host.build import build_library
from motet.targets.host.loops import (
    PARALLEL,
    allocate,
    index,
    load,
    loop,
    ramp,
    scratch,
    seq,
    store,
)
from motet.targets.host.machine import native_machine

CHAINS = 12
"""Independent accumulators: two units of latency 4 want 8, and 16 registers hold 12 and more."""
STEPS = 1 << 20
READ_BYTES = 256 * 2**20
CALLS = 12


@dataclass(frozen=True)
class Limits:
    """Peak of fp32 operations and of bytes read from memory, a second, on ``threads``."""

    threads: int
    flops_per_second: float
    bytes_per_second: float

    def seconds(self, macs: int, size: int) -> float:
        """The speed of light of ``macs`` multiply-accumulates and ``size`` bytes."""
        return max(2 * macs / self.flops_per_second, size / self.bytes_per_second)


def measure(threads: int) -> Limits:
    """Measure this machine with ``threads`` threads, in a process of its own: a second or two."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(threads)],
        capture_output=True,
        check=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)},
    )
    return Limits(threads, **json.loads(done.stdout))


def _probe(threads: int) -> dict[str, float]:
    machine = native_machine()
    lanes = machine.vector_bytes // 4
    kernels = {"fma": _fma_kernel(threads, lanes), "read": _read_kernel(threads, lanes)}
    library = KernelLibrary(build_library(kernels, machine), threads)
    results = _zeros((threads, CHAINS * lanes))
    factors = _zeros((2 * lanes,))
    factors[...] = 0.5
    fma = _best(lambda: library.function("fma")(_tensor(factors), _tensor(results)))
    data = _zeros((threads, READ_BYTES // 4 // threads // (CHAINS * lanes), CHAINS * lanes))
    data[...] = 1  # pages that were never written are one page of zeros
    read = _best(lambda: library.function("read")(_tensor(data), _tensor(results)))
    matrix = np.ones((1024, 1024), np.float32)
    sgemm = _best(lambda: matrix @ matrix)
    flops = max(2.0 * threads * CHAINS * lanes * STEPS / fma, 2.0 * 1024**3 / sgemm)
    return {"flops_per_second": flops, "bytes_per_second": data.nbytes / read}


def _fma_kernel(threads: int, lanes: int) -> Any:
    """``acc = acc * a + b`` on each of the accumulators, ``STEPS`` times, in each thread."""
    factors = tirx.decl_buffer([index(2 * lanes)], "float32", name="factors")
    results = tirx.decl_buffer([index(threads), index(CHAINS * lanes)], "float32", name="results")
    chains = [scratch(f"acc{k}", [lanes], "float32") for k in range(CHAINS)]
    whole, second = ramp(index(0), lanes), ramp(index(lanes), lanes)

    def step(_k: Any) -> Any:
        a, b = load(factors, whole), load(factors, second)
        return seq(*[store(acc, load(acc, whole) * a + b, whole) for acc in chains])

    work = loop("k", STEPS, step)
    return _per_thread(threads, chains, results, lambda _thread: work, [factors, results])


def _read_kernel(threads: int, lanes: int) -> Any:
    """The sum of a part of the array in each thread."""
    rows = READ_BYTES // 4 // threads // (CHAINS * lanes)
    extents = [index(threads), index(rows), index(CHAINS * lanes)]
    data = tirx.decl_buffer(extents, "float32", name="data")
    results = tirx.decl_buffer([index(threads), index(CHAINS * lanes)], "float32", name="results")
    chains = [scratch(f"acc{k}", [lanes], "float32") for k in range(CHAINS)]
    whole = ramp(index(0), lanes)

    def body(thread: Any) -> Any:
        def step(row: Any) -> Any:
            parts = [load(data, thread, row, ramp(index(k * lanes), lanes)) for k in range(CHAINS)]
            sums = [load(acc, whole) + part for acc, part in zip(chains, parts, strict=True)]
            return seq(*[store(acc, s, whole) for acc, s in zip(chains, sums, strict=True)])

        return loop("row", rows, step)

    return _per_thread(threads, chains, results, body, [data, results])


def _per_thread(
    threads: int,
    chains: list[Any],
    results: Any,
    work: Callable[[Any], Any],
    params: list[Any],
) -> Any:
    """``work`` of each thread between a load and a store of ``chains``."""
    lanes = int(chains[0].shape[0])
    whole = ramp(index(0), lanes)
    pairs = [(acc, ramp(index(k * lanes), lanes)) for k, acc in enumerate(chains)]

    def body(thread: Any) -> Any:
        return seq(
            *[allocate(acc) for acc in chains],
            *[store(acc, load(results, thread, place), whole) for acc, place in pairs],
            work(thread),
            *[store(results, load(acc, whole), thread, place) for acc, place in pairs],
        )

    var = tirx.Var("thread", "int64")
    nest = tirx.For(var, index(0), index(threads), PARALLEL, body(var))
    return tirx.PrimFunc(params, nest).with_attr("tirx.noalias", True)


def _zeros(shape: tuple[int, ...]) -> Any:
    return view(aligned_bytes(4 * int(np.prod(shape))), 0, "float32", shape)


def _tensor(array: Any) -> Any:
    return tvm_ffi.from_dlpack(array)


def _best(run: Callable[[], Any]) -> float:
    """Least wall time of ``CALLS`` calls, in seconds."""
    times = []
    for _ in range(CALLS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    json.dump(_probe(int(sys.argv[1])), sys.stdout)
