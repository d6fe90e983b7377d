"""What a product's operands become: types from a setting, and limits from calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from motet.compiler.calibration.histograms import Magnitudes, Method
from motet.compiler.quantizing.products import Operand, Product
from motet.targets.quantized.notation import Setting
from motet.targets.quantized.scales import quantized
from motet.targets.quantized.types import Integers, QuantTensor, QuantType, Reals

_TINY = np.finfo(np.float32).tiny

Seen = Mapping[str, Magnitudes]
"""Magnitudes of computed values on the calibration data, by tensor."""


@dataclass(frozen=True)
class Static:
    """How computed values are quantised: what calibration fixes.

    gamma: float32, of one element: with two levels what a vector's integer scale is worth, else
        the scale itself. None: scales are found as the model runs, each vector's in float32.
    zero: the integers that 0 has, shaped as gamma; None: 0.
    """

    type: QuantType
    gamma: Reals | None
    zero: Integers | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for what is quantised in the same way."""
        parts = (self.gamma, self.zero)
        return (self.type, *(None if each is None else each.tobytes() for each in parts))


@dataclass(frozen=True, eq=False)
class Choice:
    """A product and what its operands become.

    weights_static: of computed weights. stored: integers of constant weights, where they are
    not the nearest. shift: float32, what is added to every output channel.
    """

    product: Product
    data: Static
    weights: QuantType
    weights_static: Static | None = None
    stored: QuantTensor | None = None
    shift: Reals | None = None

    def made(self, *, paper: bool = False) -> QuantTensor:
        """The integers of constant weights."""
        if self.stored is not None:
            return self.stored
        weights = self.product.weights
        assert weights.values is not None
        return quantized(
            weights.values, self.weights, weights.axes, paper=paper, name=weights.tensor
        )


def chosen(
    product: Product,
    setting: Setting,
    seen: Seen,
    method: Method = "max",
    percentile: float = 99.99,
    *,
    zeros: bool = False,
) -> Choice:
    """The choice for ``product`` under ``setting``; see ``products`` for what has no vectors.

    zeros: values whose range is lopsided have an integer for 0 (a zero point), where no vectors
    are.
    """
    how = (seen, method, percentile, zeros)
    data = _static(product.data, _data_type(product, setting), *how)
    if product.weights.values is None:
        kind = setting.activations
        return Choice(product, data, kind, _static(product.weights, kind, *how))
    weights = setting.weights
    if product.is_depthwise and weights.granularity == "vector":
        weights = QuantType(weights.bits, granularity="channel")
    return Choice(product, data, weights)


def _data_type(product: Product, setting: Setting) -> QuantType:
    kind, channels = setting.activations, product.channels
    if product.is_depthwise and setting.weights.granularity != "tensor":
        # Channels of its data are as far apart as its weights are, and leave the sum.
        return QuantType(kind.bits, granularity="channel")
    whole = product.groups == 1 or (channels is not None and channels % kind.vector == 0)
    if kind.granularity == "vector" and not whole:
        return QuantType(kind.bits, granularity="tensor")
    return kind


def _static(
    operand: Operand, kind: QuantType, seen: Seen, method: Method, percentile: float, zeros: bool
) -> Static:
    magnitudes = seen[operand.tensor]
    kind = replace(kind, signed=magnitudes.least < 0)
    if kind.granularity == "vector" and kind.scale_bits is None:
        return Static(kind, None)
    if kind.granularity != "vector":
        # ONNX's QuantizeLinear saturates at -2^7 by itself; narrower types are clipped.
        kind = replace(kind, symmetric=kind.bits < 8)
    ends, shape = _ends(operand, kind, magnitudes)
    has_zero = zeros and kind.signed and kind.granularity != "vector" and _is_lopsided(*ends, kind)
    wanted = replace(kind, signed=False) if has_zero else kind
    if method == "mse" and kind.granularity != "tensor":
        method = "max"  # the error of one scale for all says nothing of several
    limit = np.asarray(magnitudes.limit(method, wanted, percentile), np.float32)
    ends = np.maximum(ends[0], -limit), np.minimum(ends[1], limit)
    if has_zero:
        return _with_zero(*ends, kind, shape)
    return Static(kind, _gamma(np.maximum(-ends[0], ends[1]), kind).reshape(shape))


def _ends(
    operand: Operand, kind: QuantType, magnitudes: Magnitudes
) -> tuple[tuple[Reals, Reals], list[int]]:
    """The least and the greatest of what shares a scale, with 0; the shape of their steps."""
    shape = [1] * operand.rank
    least, greatest = magnitudes.channel_least, magnitudes.channel_greatest
    if kind.granularity == "channel" and least is not None and greatest is not None:
        shape[operand.axes.channel or 0] = -1
        return (least, greatest), shape
    ends = np.asarray(magnitudes.least, np.float32), np.asarray(magnitudes.greatest, np.float32)
    return ends, shape


def _gamma(limit: Reals, kind: QuantType) -> Reals:
    step = np.asarray(limit / np.float32(kind.largest * kind.largest_scale), np.float32)
    return np.where(step > 0, np.maximum(step, _TINY), np.float32(1)).astype(np.float32)


def _with_zero(least: Reals, greatest: Reals, kind: QuantType, shape: list[int]) -> Static:
    """Unsigned integers of which one stands for 0: all of them from ``least`` to ``greatest``."""
    kind = replace(kind, signed=False)
    gamma = _gamma(greatest - least, kind)
    zero = np.clip(np.rint(-least / gamma), 0, kind.largest).astype(kind.element)
    return Static(kind, gamma.reshape(shape), zero.reshape(shape))


def _is_lopsided(least: Reals, greatest: Reals, kind: QuantType) -> bool:
    """Whether a zero point makes the steps shorter by a quarter at least: 2.5 dB."""
    symmetric = np.maximum(-least, greatest) / kind.largest
    lopsided = (greatest - least) / replace(kind, signed=False).largest
    return bool(np.square(lopsided).sum() < 0.75**2 * np.square(symmetric).sum())
