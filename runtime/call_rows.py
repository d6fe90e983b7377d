"""A program's straight line as one native call.

Between kernels no interpreter runs, and no lock of an interpreter is taken, so that several
runs at once do not wait for each other; a run that may be asked to stop reads one number there.
The library's ``motet_run`` (``targets/host/forks.c``) takes a table that is made once, when a
program is bound to its tensors.
"""

from __future__ import annotations

import ctypes
from collections.abc import Generator, Sequence
from typing import NoReturn

from motet.runtime.boundaries import Boundary
from motet.runtime.errors import BundleError
from motet.runtime.side_by_side import BoundCall, KernelRow, Stage, kernel_row


class CallRow:
    """Kernel calls and stages in their order; calling it runs them all.

    One row runs one call at a time, as the frame that it belongs to does.
    """

    def __init__(self, native: ctypes.CDLL, calls: Sequence[BoundCall | Stage]) -> None:
        self._calls = calls  # keeps kernels, tensors and tables alive
        self._rows = [_row(native, call) for call in calls]
        self._table = (KernelRow * len(calls))(*self._rows)
        self._run = native.motet_run
        self._run.argtypes = [ctypes.POINTER(KernelRow), *[ctypes.c_int64] * 2, ctypes.c_void_p,
                              ctypes.c_int64]  # fmt: skip
        self._run.restype = ctypes.c_int64

    def __len__(self) -> int:
        return len(self._calls)

    def __call__(self) -> None:
        """Run all calls; raises what a kernel raises."""
        reached = self._run(self._table, 0, len(self._calls), None, 0)
        if reached < 0:
            self._fail(~reached)

    def go_on(self, first: int, boundary: Boundary) -> int:
        """Run from call ``first`` on; the call that comes next, ``len`` at the end."""
        reached: int = self._run(
            self._table, first, len(self._calls), boundary.changes.address, boundary.seen
        )
        if reached < 0:
            self._fail(~reached)
        return reached

    def pausing(self, boundary: Boundary) -> Generator[int, None, None]:
        """Run all calls, giving way where told to; yields the calls done since it last did."""
        position, count = 0, len(self._calls)
        while position < count:
            reached = self.go_on(position, boundary)
            yield reached - position
            position = reached

    def _fail(self, number: int) -> NoReturn:
        """The error of a call that failed, which it gives again when it is called from here."""
        call = self._calls[number]
        if isinstance(call, Stage):
            call.fail()
        symbol, function, tensors = call
        function(*tensors)
        raise BundleError(f"kernel {symbol!r} failed in a row of calls, and not by itself")


def _row(native: ctypes.CDLL, call: BoundCall | Stage) -> KernelRow:
    if isinstance(call, Stage):
        return KernelRow(None, ctypes.cast(call.table, ctypes.c_void_p), len(call.table))
    return kernel_row(native, call)
