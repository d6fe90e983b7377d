"""Motet: several ONNX models in, one bundle out, run on the host and a simulated array.

>>> bundle = motet.compile(["faces.onnx", "hands.onnx"])
>>> bundle.save("headset.motet")
>>> session = motet.load("headset.motet")
>>> session.run("faces", {"image": image})
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from motet import errors
    from motet.api import compile, load
    from motet.compiler.compile import CompileOptions
    from motet.compiler.spec import BundleSpec, ModelSpec
    from motet.runtime.bundle import Bundle
    from motet.runtime.report import RunReport
    from motet.runtime.session import ModelSession, Session

_HOMES = {
    "BundleSpec": "motet.compiler.spec",
    "Bundle": "motet.runtime.bundle",
    "CompileOptions": "motet.compiler.compile",
    "ModelSession": "motet.runtime.session",
    "ModelSpec": "motet.compiler.spec",
    "RunReport": "motet.runtime.report",
    "Session": "motet.runtime.session",
    "compile": "motet.api",
    "load": "motet.api",
}

__all__ = [
    "Bundle",
    "BundleSpec",
    "CompileOptions",
    "ModelSession",
    "ModelSpec",
    "RunReport",
    "Session",
    "compile",
    "errors",
    "load",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for, and only that: ``import motet`` alone stays light."""
    if name == "errors":
        return import_module("motet.errors")
    if name == "__version__":
        return import_module("importlib.metadata").version("motet")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'motet' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, imported or not yet."""
    return sorted({*globals(), *__all__, "__version__"})
