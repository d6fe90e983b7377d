"""A process that times kernels for the one that started it (``measure``); it imports no tvm.

It reads a request (JSON, one line) from standard input and answers a line per problem of it.
The kernels of a problem are run in turns, so that what disturbs the machine for a while
disturbs all of them; the minimum counts. Those that are far from the best after a few rounds
pause, and are run again at the end: a disturbance may have been longer than the few rounds.

As in a network, a kernel finds its input where the operator before left it and its weights
outside the caches of its core: inputs and outputs are the same memory every time, weights are
read from another part of ``POOL_BYTES`` at every call, whichever kernel is called.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tvm_ffi

from motet.runtime.kernels import KernelLibrary

POOL_BYTES = 64 * 2**20
"""Twice the last-level cache of common machines: long weights come from memory."""
_SLOTS = 128
_ALIGNMENT = 64
_SAMPLE_SECONDS = 40e-6
"""A sample is as many calls as take this long: the clock and the call cost about 1 us."""
_OPEN_ROUNDS = 5
"""Of all kernels, at the beginning and at the end."""
_CLOSE_ROUNDS = 30
"""Between, of those within ``_PROMISING`` of the best."""
_PROMISING = 1.25


class Argument(msgspec.Struct, frozen=True, array_like=True):
    """A tensor that a kernel is called with; weight: a constant of a network.

    content: of a weight whose values the kernel goes by (counts, places), its bytes, compressed
    by zlib; any values do elsewhere.
    """

    shape: tuple[int, ...]
    dtype: str
    weight: bool
    content: bytes = b""


class Contest(msgspec.Struct, frozen=True):
    """The kernels of one problem: symbol -> arguments. seconds: when to stop the rounds."""

    kernels: dict[str, tuple[Argument, ...]]
    seconds: float


class Request(msgspec.Struct, frozen=True):
    """A library (path of the shared object), the threads of a call, and what to time."""

    library: str
    threads: int
    contests: tuple[Contest, ...]


class _Memory:
    """Random numbers to compute with: a pool for weights, a buffer for every activation."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._pools: dict[str, Any] = {}
        self._buffers: dict[tuple[int, str, int], Any] = {}

    def _filled(self, elements: int, dtype: str) -> Any:
        raw = np.empty(elements * np.dtype(dtype).itemsize + _ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % _ALIGNMENT
        array = raw[start : raw.size - (_ALIGNMENT - start)].view(dtype)
        block = self._random.standard_normal(4096) * 0.1
        if np.dtype(dtype).kind != "f":
            block = (block * 400).astype(np.int64)  # wraps around where it is of no sign
        array[...] = np.resize(block.astype(dtype), array.shape)
        return array

    def weights(self, shape: Sequence[int], dtype: str) -> list[Any]:
        """The tensor in several places of the pool, for call after call."""
        size = int(np.prod(shape))
        if dtype not in self._pools or self._pools[dtype].size < size:
            item = np.dtype(dtype).itemsize
            self._pools[dtype] = self._filled(max(POOL_BYTES // item, size), dtype)
        pool = self._pools[dtype]
        step = _ALIGNMENT // pool.itemsize
        slots = max(1, min(_SLOTS, pool.size // max(size, 1)))
        starts = [(pool.size - size) * i // max(slots - 1, 1) // step * step for i in range(slots)]
        return [_tensor(pool[start : start + size].reshape(shape)) for start in starts]

    def places(self, number: int, argument: Argument, kernels: int) -> list[Any]:
        """Where argument ``number`` of one of ``kernels`` is read from or written to."""
        if argument.content:
            return self.copies(argument, kernels)
        if argument.weight:
            return self.weights(argument.shape, argument.dtype)
        return [self.activation(number, argument.shape, argument.dtype)]

    def copies(self, argument: Argument, kernels: int) -> list[Any]:
        """The argument's content in several places, which share a pool with other kernels'."""
        content = np.frombuffer(zlib.decompress(argument.content), argument.dtype)
        count = max(1, min(_SLOTS, POOL_BYTES // kernels // max(content.nbytes, 1)))
        step = -(-content.nbytes // _ALIGNMENT) * _ALIGNMENT // content.itemsize
        pool = self._filled(count * step, argument.dtype).reshape(count, step)
        pool[:, : content.size] = content
        return [_tensor(copy[: content.size].reshape(argument.shape)) for copy in pool]

    def activation(self, number: int, shape: Sequence[int], dtype: str) -> Any:
        """Argument ``number`` of the kernels of a problem."""
        key = (number, dtype, int(np.prod(shape)))
        if key not in self._buffers:
            self._buffers[key] = self._filled(key[2], dtype)
        return _tensor(self._buffers[key].reshape(shape))

    def forget_activations(self) -> None:
        """The next problem has others."""
        self._buffers.clear()


def _tensor(array: Any) -> Any:
    return tvm_ffi.from_dlpack(array, require_alignment=_ALIGNMENT if array.size else 0)


class _Runner:
    """Calls one kernel, with other weights every time.

    turns: counts the calls of all ``kernels`` that compete, so that none reads weights which
    another has just brought into the caches.
    """

    def __init__(
        self, function: Callable[..., Any], arguments: Sequence[Argument], memory: _Memory,
        turns: Iterator[int], kernels: int,
    ) -> None:  # fmt: skip
        choices = [memory.places(number, a, kernels) for number, a in enumerate(arguments)]
        places = max(map(len, choices))
        self._sets = [tuple(c[i % len(c)] for c in choices) for i in range(places)]
        self._turns, self._function = turns, function
        self.best = min(self._timed(1), self._timed(1))
        self.repeats = max(1, min(64, round(_SAMPLE_SECONDS / max(self.best, 1e-9))))
        self.best = self._timed(self.repeats)

    def _timed(self, calls: int) -> float:
        function, places = self._function, len(self._sets)
        sets = [self._sets[next(self._turns) % places] for _ in range(calls)]
        started = time.perf_counter()
        for arguments in sets:
            function(*arguments)
        return (time.perf_counter() - started) / calls

    def sample(self) -> None:
        """Once more; the least counts."""
        self.best = min(self.best, self._timed(self.repeats))


def _rounds(runners: Sequence[_Runner], count: int, end: float) -> None:
    """``count`` samples of each, in turns; one at least, whatever time it is."""
    for number in range(count):
        if number and time.perf_counter() > end:
            break
        for runner in runners:
            runner.sample()


def _contest(library: KernelLibrary, contest: Contest, memory: _Memory) -> list[float]:
    """Seconds of every kernel, in the order of the request."""
    memory.forget_activations()
    started, turns = time.perf_counter(), count()
    runners = [
        _Runner(library.function(symbol), arguments, memory, turns, len(contest.kernels))
        for symbol, arguments in contest.kernels.items()
    ]
    end = started + contest.seconds
    _rounds(runners, _OPEN_ROUNDS, end)
    best = min(runner.best for runner in runners)
    _rounds([r for r in runners if r.best <= _PROMISING * best], _CLOSE_ROUNDS, end)
    _rounds(runners, _OPEN_ROUNDS, end)
    return [runner.best for runner in runners]


def serve() -> None:
    """Answer requests until standard input ends."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no answer
    memory = _Memory()
    for line in sys.stdin:
        request = msgspec.json.decode(line, type=Request)
        library = KernelLibrary(Path(request.library).read_bytes(), request.threads)
        for contest in request.contests:
            found = _contest(library, contest, memory)
            os.write(answers, msgspec.json.encode(found) + b"\n")


if __name__ == "__main__":
    serve()
