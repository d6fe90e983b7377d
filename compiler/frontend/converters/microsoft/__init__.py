"""Converters of the ``com.microsoft`` domain: what onnxruntime's tools write into models.

The specification is onnxruntime's ``docs/ContribOperators.md``; one family per file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from motet.compiler.frontend.node import Node

from . import (
    activations,
    attention,
    causal_conv,
    channels_last,
    crops,
    fused,
    group_query,
    inverse,
    low_bits,
    normalization,
    position_bias,
    quantized,
    quantized_products,
    rotary,
    tensors,
)

_FAMILIES = (
    activations,
    attention,
    causal_conv,
    channels_last,
    crops,
    fused,
    group_query,
    inverse,
    low_bits,
    normalization,
    position_bias,
    quantized,
    quantized_products,
    rotary,
    tensors,
)

CONVERTERS: dict[str, Callable[[Node], Any]] = {
    name: convert for family in _FAMILIES for name, convert in family.CONVERTERS.items()
}

__all__ = ["CONVERTERS"]
