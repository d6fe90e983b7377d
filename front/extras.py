"""Packages that only some commands need, and the extra of this package that brings each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from motet.runtime.errors import EnvironmentLackError

EXTRAS = {
    "numba": "simulate",
    "joblib": "explore",
    "matplotlib": "plot",
}


@contextmanager
def naming_extras() -> Iterator[None]:
    """Raise ``EnvironmentLackError`` with what to install where an import finds no package."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise EnvironmentLackError(
            f"this needs the package {package!r}: pip install 'motet[{EXTRAS[package]}]'"
        ) from error
