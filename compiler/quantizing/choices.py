"""What a product's operands become: types from a setting, and limits from calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from motet.compiler.calibration.histograms import Magnitudes, Method
from motet.compiler.quantizing.products import Operand, Product
from motet.targets.quantized.notation import Setting
from motet.targets.quantized.types import QuantType, Reals

Seen = Mapping[str, Magnitudes]
"""Magnitudes of computed values on the calibration data, by tensor."""


@dataclass(frozen=True)
class Static:
    """How computed values are quantised: what calibration fixes.

    gamma: float32, of one element: with two levels what a vector's integer scale is worth, else
        the scale itself. None: scales are found as the model runs, each vector's in float32.
    """

    type: QuantType
    gamma: Reals | None


@dataclass(frozen=True)
class Choice:
    """A product and what its operands become. weights_static: of computed weights."""

    product: Product
    data: Static
    weights: QuantType
    weights_static: Static | None = None


def chosen(
    product: Product,
    setting: Setting,
    seen: Seen,
    method: Method = "max",
    percentile: float = 99.99,
) -> Choice:
    """The choice for ``product`` under ``setting``; see ``products`` for what has no vectors."""
    data = _static(product.data, _data_type(product, setting), seen, method, percentile)
    if product.weights.values is None:
        kind = setting.activations
        return Choice(product, data, kind, _static(product.weights, kind, seen, method, percentile))
    weights = setting.weights
    if product.is_depthwise and weights.granularity == "vector":
        weights = QuantType(weights.bits, granularity="channel")
    return Choice(product, data, weights)


def _data_type(product: Product, setting: Setting) -> QuantType:
    kind, channels = setting.activations, product.channels
    whole = product.groups == 1 or (channels is not None and channels % kind.vector == 0)
    if kind.granularity == "vector" and product.is_depthwise:
        return QuantType(kind.bits, granularity="channel")
    if kind.granularity == "vector" and not whole:
        return QuantType(kind.bits, granularity="tensor")
    return kind


def _static(
    operand: Operand, kind: QuantType, seen: Seen, method: Method, percentile: float
) -> Static:
    magnitudes = seen[operand.tensor]
    kind = replace(kind, signed=magnitudes.least < 0)
    if kind.granularity == "vector" and kind.scale_bits is None:
        return Static(kind, None)
    if kind.granularity != "vector":
        # ONNX's QuantizeLinear saturates at -2^7 by itself; narrower types are clipped.
        kind = replace(kind, symmetric=kind.bits < 8)
    limit = np.asarray(magnitudes.limit(method, kind, percentile), np.float32)
    shape = [1] * operand.rank
    if kind.granularity == "channel" and magnitudes.channels is not None:
        limit = np.minimum(magnitudes.channels, limit)
        shape[operand.axes.channel or 0] = -1
    step = np.asarray(limit / np.float32(kind.largest * kind.largest_scale), np.float32)
    gamma = np.where(step > 0, np.maximum(step, np.finfo(np.float32).tiny), np.float32(1))
    return Static(kind, gamma.reshape(shape))
