"""What a quantised tensor is: its type, and its integers with their scales."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import SpecError

Granularity = Literal["tensor", "channel", "vector"]
"""What shares a scale: all of a tensor, a channel of it, or V elements along the reduction."""

Integers = NDArray[np.integer[Any]]
Reals = NDArray[np.float32]

MOST_SCALE_BITS = 16


@dataclass(frozen=True)
class QuantType:
    """How a tensor is quantised.

    Attributes
    ----------
    bits: N of an element, 2 to 8.
    signed: -(2^(N-1) - 1) to 2^(N-1) - 1, else 0 to 2^N - 1 (what is never negative).
    symmetric: a signed type leaves -2^(N-1) out; where not, what is clipped may become it.
    granularity: what shares a scale.
    vector: V, 4 to 128: elements of a vector along the reduction; the last may be shorter.
    scale_bits: M, 2 to 16: a vector's scale is an unsigned integer of M bits times gamma, a
        float32 per channel or tensor. None: a float32 of its own (one level).
    """

    bits: int
    signed: bool = True
    granularity: Granularity = "vector"
    vector: int = 16
    scale_bits: int | None = None
    symmetric: bool = True

    def __post_init__(self) -> None:
        _within("bits of an element", self.bits, 2, 8)
        if self.granularity == "vector":
            _within("elements of a vector", self.vector, 4, 128)
        if self.scale_bits is not None:
            _within("bits of a vector's scale", self.scale_bits, 2, MOST_SCALE_BITS)
            if self.granularity != "vector":
                raise SpecError(
                    f"a scale per {self.granularity} is one float32; integer scales are those of "
                    'vectors: say granularity "vector", or leave out the scale\'s bits'
                )

    @property
    def largest(self) -> int:
        """The largest integer of an element."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def least(self) -> int:
        """The least integer of an element."""
        if not self.signed:
            return 0
        return -self.largest if self.symmetric else -self.largest - 1

    @property
    def magnitude(self) -> int:
        """The largest magnitude of an element's integer."""
        return max(self.largest, -self.least)

    @property
    def largest_scale(self) -> int:
        """The largest integer scale of a vector; 1 where scales are floats."""
        return 1 if self.scale_bits is None else (1 << self.scale_bits) - 1

    @property
    def element(self) -> np.dtype[Any]:
        """The NumPy type that holds elements."""
        return np.dtype("int8" if self.signed else "uint8")


@dataclass(frozen=True)
class Axes:
    """Which axes of a tensor mean what.

    reduction: along which vectors lie: the axis that a product sums over.
    channel: whose indices have a gamma (or scale) each; None: one for the tensor.
    """

    reduction: int
    channel: int | None = None

    def __post_init__(self) -> None:
        if self.reduction < 0 or (self.channel is not None and self.channel < 0):
            raise ValueError("axes are counted from the front")
        if self.channel == self.reduction:
            raise ValueError("a channel's scale would not leave the sum over its own axis")


@dataclass(frozen=True)
class QuantTensor:
    """Integers and what they are worth: real = values x scales x gamma.

    values: int8 or uint8, of the tensor's shape.
    scales: uint16 of two levels, ``ceil(size / V)`` along the reduction; None: one level.
    gamma: float32, one, or as many as there are channels, or (one level, per vector) of the
        shape that ``scales`` would have; shaped so that it broadcasts against ``scales``.
    zero: the integer that 0 has, of the shape of ``gamma``; None: 0. Not beside vectors.
    """

    type: QuantType
    axes: Axes
    values: Integers
    gamma: Reals
    scales: Integers | None = field(default=None)
    zero: Integers | None = None

    def steps(self) -> Reals:
        """What 1 is worth, for each vector (or channel, or the tensor); float32."""
        if self.scales is None:
            return self.gamma
        return np.multiply(self.scales.astype(np.float32), self.gamma, dtype=np.float32)

    def centred(self) -> NDArray[np.int64]:
        """The integers less that of 0."""
        wide = self.values.astype(np.int64)
        return wide if self.zero is None else wide - self.zero

    def dequantized(self) -> Reals:
        """The reals, float32: each one product of a centred integer and its step."""
        steps = self.steps()
        if self.type.granularity == "vector":
            axis, size = self.axes.reduction, self.values.shape[self.axes.reduction]
            steps = np.repeat(steps, self.type.vector, axis=axis)
            steps = np.take(steps, np.arange(size), axis=axis)
        integers = self.values if self.zero is None else self.centred()
        return np.multiply(integers.astype(np.float32), steps, dtype=np.float32)


def _within(what: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise SpecError(f"{what}: {value} is not within {least} to {most}")
