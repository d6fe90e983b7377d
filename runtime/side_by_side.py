"""Calls the groups of a stage side by side: one native call for a fork, its groups and the join.

The library's ``motet_fork`` (``targets/host/forks.c``) takes tables of kernel calls, made once
when a program is bound to its tensors. Python is not asked in between, and other threads of
Python run meanwhile.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from motet.runtime.errors import BundleError

_TENSOR = 70
"""The type index of a tensor (kTVMFFITensor) in the calling convention of kernels."""
_PREFIX = "__tvm_ffi_"

BoundCall = tuple[str, Callable[..., Any], tuple[Any, ...]]
"""Symbol, kernel, and the tensors that it is called with."""


class _Any(ctypes.Structure):
    """TVMFFIAny: what a kernel takes for an argument."""

    _fields_ = (
        ("type_index", ctypes.c_int32), ("padding", ctypes.c_uint32), ("value", ctypes.c_uint64)
    )  # fmt: skip


class KernelRow(ctypes.Structure):
    """``kernel_call`` of ``forks.c``: a kernel and its arguments, or no kernel and groups."""

    _fields_ = (
        ("function", ctypes.c_void_p), ("arguments", ctypes.c_void_p),
        ("count", ctypes.c_int64),
    )  # fmt: skip


class _Group(ctypes.Structure):
    _fields_ = (
        ("calls", ctypes.POINTER(KernelRow)), ("count", ctypes.c_int64),
        ("failed", ctypes.c_int64),
    )  # fmt: skip


class Stage:
    """Bound groups of kernel calls; calling it runs them all.

    One stage runs one call at a time, as the frame that it belongs to does. Raises
    ``BundleError`` where the library cannot run stages.
    """

    def __init__(self, native: ctypes.CDLL, groups: Sequence[Sequence[BoundCall]]) -> None:
        self._groups = groups  # keeps kernels and tensors alive
        tables = [_calls(native, group) for group in groups]
        self.table = (_Group * len(groups))(*(_Group(calls, len(calls), -1) for calls in tables))
        self._tables = tables
        try:
            self._fork = native.motet_fork
        except AttributeError:
            raise BundleError(
                "the bundle has stages of kernels, and its library cannot run them"
            ) from None
        self._fork.argtypes = [ctypes.POINTER(_Group), ctypes.c_int32]
        self._fork.restype = ctypes.c_int

    def __call__(self) -> None:
        """Run all groups; raises what a kernel raises."""
        if self._fork(self.table, len(self.table)) != 0:
            self.fail()

    def fail(self) -> NoReturn:
        """The error of a call that failed, which it gives again when it is called from here."""
        for group, calls in zip(self.table, self._groups, strict=True):
            if group.failed >= 0:
                symbol, function, tensors = calls[group.failed]
                function(*tensors)
                raise BundleError(f"kernel {symbol!r} failed in a stage, and not by itself")
        raise MemoryError("a stage of kernels could not be run")


def _calls(native: ctypes.CDLL, group: Sequence[BoundCall]) -> Any:
    rows = [kernel_row(native, call) for call in group]
    return (KernelRow * len(rows))(*rows)


def kernel_row(native: ctypes.CDLL, call: BoundCall) -> KernelRow:
    """The call as native code takes it; it keeps its arguments, and not their tensors."""
    symbol, _, tensors = call
    arguments = (_Any * len(tensors))(
        *(_Any(_TENSOR, 0, tensor.__chandle__()) for tensor in tensors)
    )
    address = ctypes.cast(getattr(native, _PREFIX + symbol), ctypes.c_void_p).value
    return KernelRow(address, ctypes.cast(arguments, ctypes.c_void_p), len(tensors))
