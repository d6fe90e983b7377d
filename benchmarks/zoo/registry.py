"""The families of the zoo by the names that the command line knows.

A family is a module of this package with ``NAMES``, command-line name -> variant, and
``build(variant, seed)``: adding one file adds its names here.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

import onnx

from motet.runtime.errors import SpecError

from .building import without_weights

PACKAGE = "motet.benchmarks.zoo"
_NO_FAMILIES = (
    "__main__", "building", "figures", "mobile", "registry", "separable", "transformer",
    "variants",
)  # fmt: skip


def families() -> dict[str, ModuleType]:
    """Command-line name -> the module that builds it, sorted by name."""
    found: dict[str, ModuleType] = {}
    for info in iter_modules(import_module(PACKAGE).__path__):
        if info.name not in _NO_FAMILIES:
            module = import_module(f"{PACKAGE}.{info.name}")
            found.update(dict.fromkeys(module.NAMES, module))
    return dict(sorted(found.items()))


def variant_of(name: str, variant: str | None) -> str:
    """What ``build`` is given for a name and an own ``variant``, as in ``@64`` or ``1.0``."""
    names: Mapping[str, str] = families()[name].NAMES
    if variant is None or variant.startswith("@"):
        return names[name] + (variant or "")
    return variant


def build(name: str, variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """The model called ``name``; the same seed gives the same bytes.

    Raises
    ------
    SpecError
        For a name or variant that the zoo does not have.
    """
    found = families()
    if name not in found:
        raise SpecError(f"the zoo has no network {name!r}; it has {', '.join(found)}")
    model: onnx.ModelProto = found[name].build(variant_of(name, variant), seed)
    return model


def outline(name: str, variant: str | None = None) -> onnx.ModelProto:
    """The same model with weights that have shapes and no values: for ``figures``."""
    with without_weights():
        return build(name, variant)
