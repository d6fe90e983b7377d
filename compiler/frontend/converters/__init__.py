"""Converters of ONNX operators to Relax operators: one family per file.

``CONVERTERS`` maps an operator domain and type to a function that takes a ``Node`` and
returns a Relax expression, a value, or a list of them, one per output. A family lists
operators of the default domain in its ``CONVERTERS``; a domain of its own has a package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from motet.compiler import vector_functions
from motet.compiler.frontend.node import Node

from . import (
    accumulation,
    affine_grid,
    casting,
    convolution,
    elementwise,
    fourier,
    indexing,
    linear,
    microsoft,
    normalization,
    padding,
    pooling,
    quantized,
    quantized_products,
    random,
    recurrent,
    reduction,
    resize,
    reversing,
    sampling,
    selecting,
    sequences,
    shaping,
    slicing,
    suppression,
    unpooling,
    vectors,
)

_FAMILIES = (
    accumulation,
    affine_grid,
    casting,
    convolution,
    elementwise,
    fourier,
    indexing,
    linear,
    normalization,
    padding,
    pooling,
    quantized,
    quantized_products,
    random,
    recurrent,
    reduction,
    resize,
    reversing,
    sampling,
    selecting,
    sequences,
    shaping,
    slicing,
    suppression,
    unpooling,
)

Convert = Callable[[Node], Any]

CONVERTERS: dict[tuple[str, str], Convert] = {
    ("", name): convert for family in _FAMILIES for name, convert in family.CONVERTERS.items()
}
CONVERTERS |= {("com.microsoft", name): convert for name, convert in microsoft.CONVERTERS.items()}
CONVERTERS |= {(vector_functions.DOMAIN, name): made for name, made in vectors.CONVERTERS.items()}

__all__ = ["CONVERTERS", "Convert"]
