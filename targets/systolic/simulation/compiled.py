"""How the functional view's functions are compiled: cached on disk, without the GIL.

Division by zero gives infinities as the arrays' formats have them, not exceptions.
Functions that only compiled code calls get no entry from Python, which halves the time
that they take to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """``function`` compiled, to be called by compiled code only."""
    made: Function = njit(cache=True, nogil=True, error_model="numpy", no_cpython_wrapper=True)(
        function
    )
    return made


def arithmetic(function: Function) -> Function:
    """As ``kernel``; floats may be contracted to fused multiply-adds."""
    made: Function = njit(
        cache=True,
        nogil=True,
        error_model="numpy",
        no_cpython_wrapper=True,
        fastmath={"contract"},
    )(function)
    return made


def entry(function: Function) -> Function:
    """``function`` compiled, to be called from Python."""
    made: Function = njit(cache=True, nogil=True, error_model="numpy")(function)
    return made
