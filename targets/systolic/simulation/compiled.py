"""How the functional view's functions are compiled: cached on disk, without the GIL.

Division by zero gives infinities as the arrays' formats have them, not exceptions.
Functions that only compiled code calls get no entry from Python, which halves the time
that they take to compile.

numba keeps machine code for as long as the function's own file is the same, though it holds
the functions of other files that were called. Here it is kept for as long as all files are
the same that hold such functions or their constants.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


_ROOT = Path(__file__).parents[1]
_SOURCES = (
    "array_intervals.py",
    "instructions/isa.py",
    "instructions/program.py",
    *(
        f"simulation/{name}.py"
        for name in (
            "activation_functions",
            "compiled",
            "engines",
            "event_queue",
            "execute",
            "functional_state",
            "gather",
            "intrinsics",
            "network",
            "order",
            "scalars",
            "tile_kernels",
            "vector_functions",
            "vector_products",
            "widths",
        )
    ),
)
_STAMP = hashlib.sha256(b"".join((_ROOT / name).read_bytes() for name in _SOURCES)).digest()


def _compiled(function: Function, **options: Any) -> Function:
    made: Any = njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    file = getattr(getattr(made, "_cache", None), "_cache_file", None)
    if file is not None:  # None where numba compiles nothing (NUMBA_DISABLE_JIT)
        file._source_stamp = (file._source_stamp, _STAMP)
    return made  # type: ignore[no-any-return]


def kernel(function: Function) -> Function:
    """``function`` compiled, to be called by compiled code only."""
    return _compiled(function, no_cpython_wrapper=True)


def arithmetic(function: Function) -> Function:
    """As ``kernel``; floats may be contracted to fused multiply-adds."""
    return _compiled(function, no_cpython_wrapper=True, fastmath={"contract"})


def entry(function: Function) -> Function:
    """``function`` compiled, to be called from Python."""
    return _compiled(function)
