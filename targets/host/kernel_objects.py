"""Object files of many kernels: kept ones from the cache, the others compiled, in parallel.

Kernels are added while the compiler still lowers others. Once there are enough that the
cache does not have, processes start and compile them meanwhile; at the end this process
compiles along. What comes out is the same bytes whatever the number of jobs and whatever the
cache held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from motet.runtime.errors import SpecError
from motet.runtime.progress import Show, silent
from motet.targets.host.kernel_cache import KernelCache
from motet.targets.host.machine import Machine, usable_cores
from motet.targets.host.object_code import compile_kernel, encoded, object_key
from motet.targets.host.worker_pool import Job, WorkerPool

KERNELS_PER_WORKER = 8
"""Kernels to compile for which another process pays: it needs about 1 s of CPU time to
import TVM, a kernel 0.1 s on average (ResNet-50)."""


@dataclass
class KernelObjects:
    """The kernels of one library; a context, which ends every process it started.

    jobs: processes that compile, this one included; None for one per usable CPU.
    cache: where objects are kept; None for nowhere.
    progress: told when a kernel is there. warn: told, once, that the cache cannot be written.
    """

    machine: Machine
    jobs: int | None = None
    cache: KernelCache | None = None
    progress: Show = silent
    warn: Show = silent
    hits: int = 0
    _objects: dict[str, bytes] = field(default_factory=dict)
    _kernels: dict[str, Any] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)
    _written: list[str] = field(default_factory=list)
    _pending: deque[Job] = field(default_factory=deque)
    _resources: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise SpecError(f"jobs is {self.jobs}: at least one process has to compile")
        self._limit = self.jobs or usable_cores()
        self._pool = self._resources.enter_context(WorkerPool(self.machine))

    def __enter__(self) -> KernelObjects:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.__exit__(kind, error, trace)

    @property
    def count(self) -> int:
        """Kernels that were added."""
        return len(self._kernels)

    def add(self, symbol: str, kernel: Any) -> None:
        """``kernel`` (a ``tirx.PrimFunc``) belongs to the library; a known symbol is skipped."""
        if symbol in self._kernels:
            return
        self._kernels[symbol] = kernel
        job = Job(symbol, encoded(symbol, kernel))
        if not self._take_kept(job):
            self._pending.append(job)
            self._start_workers()
        self._distribute(wait=False)

    def finish(self) -> dict[str, bytes]:
        """Symbol -> object file, in the order of the symbols.

        Raises ``CompileError`` where a process died; it names the kernel.
        """
        self._pending = deque(sorted(self._pending, key=lambda job: -len(job.text)))
        self._distribute(wait=False)
        while self._pending or self._pool.busy:
            if self._pending:  # the large ones go to the workers first, the small ones stay here
                self._compile_here(self._pending.pop())
            self._distribute(wait=not self._pending)
        self._close_cache()
        return {symbol: self._objects[symbol] for symbol in sorted(self._objects)}

    def _take_kept(self, job: Job) -> bool:
        """The object of ``job`` from the cache, if it is there."""
        if self.cache is None:
            return False
        self._keys[job.symbol] = object_key(job.text, self.machine)
        data = self.cache.get(self._keys[job.symbol])
        if data is None:
            return False
        self.hits += 1
        self._objects[job.symbol] = data
        return True

    def _start_workers(self) -> None:
        missing = self.count - self.hits
        self._pool.grow(min(self._limit - 1, missing // KERNELS_PER_WORKER))

    def _distribute(self, wait: bool) -> None:
        """Take what workers have done, and give them more."""
        if not self._pool.size or (wait and not self._pool.busy):
            return
        for answer in self._pool.answers(wait):
            if answer.data is None:  # the error is for this process to raise
                self._compile_here(answer.job)
            else:
                self._made(answer.job, answer.data)
        while self._pending and self._pool.has_room():
            self._pool.submit(self._pending.popleft())

    def _compile_here(self, job: Job) -> None:
        kernel = self._kernels[job.symbol]
        self._made(job, compile_kernel(job.symbol, kernel, self.machine))

    def _made(self, job: Job, data: bytes) -> None:
        self._objects[job.symbol] = data
        self.progress(f"{len(self._objects)} of {self.count} kernels compiled")
        if self.cache is not None:
            self._tried(lambda cache: cache.put(self._keys[job.symbol], data))
            self._written.append(self._keys[job.symbol])

    def _close_cache(self) -> None:
        """Leave the cache within its limit, and with a note of what it was good for."""
        self._tried(lambda cache: cache.evict_after(self._written))
        self._tried(lambda cache: cache.note(self.count, self.hits))

    def _tried(self, write: Callable[[KernelCache], object]) -> None:
        """Write to the cache; a folder that cannot be written must not stop a compilation."""
        if self.cache is None:
            return
        try:
            write(self.cache)
        except OSError as error:
            why = error.strerror or error
            self.warn(
                f"compiled kernels are not kept in {self.cache.folder} ({why}): "
                "name another folder with MOTET_CACHE_DIR, or set MOTET_CACHE=0"
            )
            self.cache = None
