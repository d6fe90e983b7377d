"""The bundle's kernel library, loaded without tvm: a shared object and its symbols."""

from __future__ import annotations

import ctypes
import tempfile
import threading
import weakref
from _ctypes import dlclose
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import tvm_ffi

from motet.runtime.call_rows import CallRow
from motet.runtime.errors import BundleError, EnvironmentLackError, InputError
from motet.runtime.side_by_side import BoundCall, Stage

KernelFunction = Callable[..., Any]
_CPUINFO = Path("/proc/cpuinfo")


def cpu_features() -> frozenset[str]:
    """Features of this machine's CPU under the kernel's names (``avx2``, ``fma``, ...)."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return frozenset()
    fields = (line.partition(":") for line in lines)
    return frozenset(
        word
        for name, _, value in fields
        if name.strip() in ("flags", "Features")
        for word in value.split()
    )


def require_features(required: Sequence[str]) -> None:
    """Raise ``EnvironmentLackError`` where this CPU cannot run the bundle's kernels."""
    missing = sorted(set(required) - cpu_features())
    if missing:
        raise EnvironmentLackError(
            f"the bundle was compiled for a CPU with {', '.join(missing)}, which this machine "
            "lacks: compile it again here, or with host.cpu set to this machine's level"
        )


class _Ledger:
    """What the thread pools of this process share, so that they do not crowd the CPUs.

    Memory that the first library with a pool gives and that stays to the end of the process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._address: int | None = None

    def join(self, native: ctypes.CDLL) -> None:
        """Has the pool of ``native`` use it too; a library without a pool has nothing to share."""
        try:
            enter = native.motet_join_ledger
        except AttributeError:
            return
        enter.argtypes, enter.restype = [ctypes.c_void_p], ctypes.c_void_p
        with self._lock:
            self._address = enter(self._address)


_LEDGER = _Ledger()


class KernelLibrary:
    """Symbols of a loaded shared object. The file is gone once it is loaded."""

    def __init__(self, data: bytes, threads: int | None = None) -> None:
        self._symbols: dict[str, KernelFunction] = {}
        self._module = None
        if not data:
            return
        with tempfile.TemporaryDirectory(prefix="motet-") as folder:
            path = Path(folder) / "kernels.so"
            try:
                path.write_bytes(data)
                self._module = tvm_ffi.load_module(str(path), keep_module_alive=False)
                self._native = ctypes.CDLL(str(path))
                # ctypes never closes what it opens; kernels in use keep the module's own handle.
                weakref.finalize(self, dlclose, self._native._handle).atexit = False
                _LEDGER.join(self._native)
            except (OSError, RuntimeError) as error:
                raise BundleError(
                    f"the bundle's kernel library cannot be loaded: {error}"
                ) from error
        if threads is not None:
            self.set_threads(threads)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a loaded bundle cannot be pickled: load it with motet.load in each process"
        )

    def function(self, symbol: str) -> KernelFunction:
        """The kernel ``symbol``; raises ``BundleError`` where there is none."""
        if symbol not in self._symbols:
            try:
                self._symbols[symbol] = self._module[symbol]  # type: ignore[index]
            except (AttributeError, TypeError, KeyError) as error:
                raise BundleError(f"the bundle has no kernel {symbol!r}") from error
        return self._symbols[symbol]

    def stage(self, groups: Sequence[Sequence[BoundCall]]) -> Stage:
        """What runs ``groups`` of kernel calls side by side, and returns when all have ended."""
        return Stage(self._native, groups)

    def row(self, calls: Sequence[BoundCall | Stage]) -> CallRow | None:
        """``calls`` as one native call; None where the library came without ``motet_run``."""
        return CallRow(self._native, calls) if hasattr(self._native, "motet_run") else None

    @contextmanager
    def limited(self, threads: int) -> Iterator[None]:
        """Kernels that this thread calls inside use at most ``threads``; no pool, no limit."""
        limit = getattr(self._native, "motet_limit_threads", None) if self._module else None
        before = limit(ctypes.c_int(threads)) if limit is not None else 0
        try:
            yield
        finally:
            if limit is not None:
                limit(ctypes.c_int(before))

    @property
    def threads(self) -> int:
        """Threads that one kernel call may use; 1 where the library has no pool."""
        getter = getattr(self._native, "motet_get_threads", None) if self._module else None
        return int(getter()) if getter is not None else 1

    def set_threads(self, threads: int) -> None:
        """Threads that one kernel call may use; at least 1.

        Raises ``InputError`` for less, ``BundleError`` where the library has no pool.
        """
        if threads < 1:
            raise InputError(f"threads is {threads}: a kernel call takes at least 1")
        if self._module is None:
            return
        try:
            setter = self._native.motet_set_threads
        except AttributeError:
            raise BundleError(
                "the bundle's kernel library has no thread pool (no motet_set_threads): "
                "load it without a number of threads"
            ) from None
        setter(ctypes.c_int(threads))
