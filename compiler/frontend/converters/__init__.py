"""Converters of ONNX operators to Relax operators: one family per file.

``CONVERTERS`` maps an operator type of the default domain to a function that takes a
``Node`` and returns a Relax expression, a value, or a list of them, one per output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from motet.compiler.frontend.node import Node

from . import (
    convolution,
    detection,
    elementwise,
    fourier,
    indexing,
    linear,
    normalization,
    padding,
    pooling,
    recurrent,
    reduction,
    resize,
    sequences,
    shaping,
    slicing,
)

_FAMILIES = (
    convolution,
    detection,
    elementwise,
    fourier,
    indexing,
    linear,
    normalization,
    padding,
    pooling,
    recurrent,
    reduction,
    resize,
    sequences,
    shaping,
    slicing,
)

CONVERTERS: dict[str, Callable[[Node], Any]] = {
    name: convert for family in _FAMILIES for name, convert in family.CONVERTERS.items()
}

__all__ = ["CONVERTERS"]
