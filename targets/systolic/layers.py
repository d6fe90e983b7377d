"""The layers that the array computes: convolutions and matrix products, in fp32.

Plain geometry, free of any compiler's types. Both are matrix products to the
array; ``product_shape`` is the one that it sees, per group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from motet.runtime.errors import CompileError

MAX_ELEMENTS = 2**31 - 1


class ProductShape(NamedTuple):
    """``groups`` products of their own, each [m, k] x [k, n]."""

    groups: int
    m: int
    n: int
    k: int


@dataclass(frozen=True)
class Convolution:
    """2-D convolution (1-D: height 1), optional bias [out_channels], optional clamp.

    Input [batch, in_channels, in_height, in_width] (NCHW), weight [out_channels,
    in_channels / groups, *kernel] (OIHW), output NCHW. ``padding`` is (top, left,
    bottom, right) in zeros; ``clamp`` is the (low, high) that outputs are limited to.
    """

    batch: int
    in_channels: int
    out_channels: int
    groups: int
    in_height: int
    in_width: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    bias: bool = False
    clamp: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        sizes = (self.batch, self.in_channels, self.out_channels, self.groups)
        spatial = (self.in_height, self.in_width, *self.kernel, *self.stride, *self.dilation)
        _require(min(sizes + spatial) >= 1, self, "sizes, strides and dilations must be positive")
        _require(min(self.padding) >= 0, self, "padding must not be negative")
        grouped = self.in_channels % self.groups or self.out_channels % self.groups
        _require(not grouped, self, "groups must divide both channel counts")
        _require(min(self.out_size) >= 1, self, "the padded input is smaller than the kernel")
        top, left, bottom, right = self.padding
        padded = (self.in_height + top + bottom) * (self.in_width + left + right)
        _require_size(self.batch * self.in_channels * padded, self)
        _require_size(math.prod(self.output_shape), self)
        _require_size(math.prod(self.weight_shape), self)
        _require_clamp(self.clamp, self)

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        top, left, bottom, right = self.padding
        sizes = (self.in_height + top + bottom, self.in_width + left + right)
        reaches = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        height, width = (
            (size - reach) // stride + 1
            for size, reach, stride in zip(sizes, reaches, self.stride, strict=True)
        )
        return height, width

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, NCHW."""
        return self.batch, self.in_channels, self.in_height, self.in_width

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight, OIHW."""
        return self.out_channels, self.in_channels // self.groups, *self.kernel

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, NCHW."""
        return self.batch, self.out_channels, *self.out_size

    @property
    def product_shape(self) -> ProductShape:
        """The matrix products it is: a row per output position, a column per channel."""
        m = self.batch * math.prod(self.out_size)
        k = self.in_channels // self.groups * math.prod(self.kernel)
        return ProductShape(self.groups, m, self.out_channels // self.groups, k)

    @property
    def macs(self) -> int:
        """Multiply-accumulates, those with padding's zeros included."""
        return math.prod(self.product_shape)


@dataclass(frozen=True)
class MatrixProduct:
    """Batched matrix product, optional bias [n], optional clamp; all row-major.

    lhs [batch, m, k], rhs [batch, k, n] or, with ``rhs_batched`` False, [1, k, n]
    (the batch is then folded into the rows), output [batch, m, n].
    """

    batch: int
    m: int
    n: int
    k: int
    rhs_batched: bool = False
    bias: bool = False
    clamp: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _require(min(self.batch, self.m, self.n, self.k) >= 1, self, "sizes must be positive")
        for shape in (self.input_shape, self.weight_shape, self.output_shape):
            _require_size(math.prod(shape), self)
        _require_clamp(self.clamp, self)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the left-hand side."""
        return self.batch, self.m, self.k

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the right-hand side."""
        return self.batch if self.rhs_batched else 1, self.k, self.n

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return self.batch, self.m, self.n

    @property
    def product_shape(self) -> ProductShape:
        """The matrix products it is: one per batch, or one over all rows."""
        if self.rhs_batched:
            return ProductShape(self.batch, self.m, self.n, self.k)
        return ProductShape(1, self.batch * self.m, self.n, self.k)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.batch * self.m * self.n * self.k


Layer = Convolution | MatrixProduct


def _require(condition: bool, layer: object, rule: str) -> None:
    if not condition:
        raise CompileError(f"{rule}: {layer}")


def _require_size(elements: int, layer: object) -> None:
    _require(elements <= MAX_ELEMENTS, layer, "an operand may hold at most 2**31 - 1 values")


def _require_clamp(clamp: tuple[float, float] | None, layer: object) -> None:
    if clamp is not None:
        _require(clamp[0] <= clamp[1], layer, "the clamp's low must not exceed its high")
