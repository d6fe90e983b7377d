"""What compiling for an array needs beside what the host's kernels need."""

from __future__ import annotations

from importlib import import_module

from motet.runtime.errors import EnvironmentLackError


def require_array_compiler() -> None:
    """Raises ``EnvironmentLackError`` where numba, whose loops make array programs, is absent."""
    try:
        import_module("numba")
    except ImportError as error:
        raise EnvironmentLackError(
            "compiling for an array needs the package 'numba': pip install 'motet[simulate]'"
        ) from error
