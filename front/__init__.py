"""Motet: several ONNX models in, one bundle out, run on the host and a simulated array.

>>> bundle = motet.compile(["faces.onnx", "hands.onnx"])
>>> bundle.save("headset.motet")
>>> session = motet.load("headset.motet")
>>> session.run("faces", {"image": image})
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from motet import errors, operators
    from motet.api import compile, load
    from motet.compiler.compile import CompileOptions
    from motet.compiler.spec import BundleSpec, ModelSpec, QuotaSpec
    from motet.merging import merge
    from motet.quantized_model import QuantizeOptions
    from motet.quantizing import quantize
    from motet.replacing import replace_depthwise
    from motet.runtime.bundle import Bundle
    from motet.runtime.report import RunReport
    from motet.runtime.session import ModelSession, Session

    __all__ = [
        "Bundle",
        "BundleSpec",
        "CompileOptions",
        "ModelSession",
        "ModelSpec",
        "QuantizeOptions",
        "QuotaSpec",
        "RunReport",
        "Session",
        "compile",
        "errors",
        "load",
        "merge",
        "operators",
        "quantize",
        "replace_depthwise",
    ]

_HOMES = {
    "BundleSpec": "motet.compiler.spec",
    "Bundle": "motet.runtime.bundle",
    "CompileOptions": "motet.compiler.compile",
    "ModelSession": "motet.runtime.session",
    "ModelSpec": "motet.compiler.spec",
    "QuantizeOptions": "motet.quantized_model",
    "QuotaSpec": "motet.compiler.spec",
    "RunReport": "motet.runtime.report",
    "Session": "motet.runtime.session",
    "compile": "motet.api",
    "load": "motet.api",
    "merge": "motet.merging",
    "quantize": "motet.quantizing",
    "replace_depthwise": "motet.replacing",
}

_COMPILER_NEEDS = ("onnx", "tvm")
_OF_THE_COMPILER = frozenset(
    {*(name for name in _HOMES if _HOMES[name].startswith("motet.compiler.")), "operators"}
)
"""Names that ``dir``, ``help`` and ``import *`` leave out where there is no compiler."""


def __getattr__(name: str) -> Any:
    """Import what is asked for, and only that: ``import motet`` alone stays light."""
    if name in ("errors", "operators"):
        return import_module(f"motet.{name}")
    if name == "__version__":
        return import_module("importlib.metadata").version("motet")
    if name == "__all__":
        return _available()
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'motet' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names that this installation has, imported or not yet."""
    return sorted({*globals(), *_available(), "__all__", "__version__"})


def _available() -> list[str]:
    """``__all__``: without the names that need a compiler where its packages are absent."""
    absent = () if all(map(_importable, _COMPILER_NEEDS)) else _OF_THE_COMPILER
    return sorted({*_HOMES, "errors", "operators"} - {*absent})


def _importable(package: str) -> bool:
    """Whether ``package`` is installed; looks for it without importing it."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # blocked, or a module without a specification
        return False
