"""The layers that the array computes: plain geometry, free of any compiler's types."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from motet.targets.systolic.workload.limits import require as _require
from motet.targets.systolic.workload.limits import require_size as _require_size
from motet.targets.systolic.workload.moves import Move


class ProductShape(NamedTuple):
    """``groups`` products of their own, each [m, k] x [k, n]."""

    groups: int
    m: int
    n: int
    k: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return math.prod(self)


@dataclass(frozen=True)
class _Filtered:
    """What both kinds of convolution share; NCHW, ``padding`` is (top, left, bottom, right)."""

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

    def __post_init__(self) -> None:
        sizes = (self.batch, self.in_channels, self.out_channels, self.groups)
        spatial = (self.in_height, self.in_width, *self.kernel, *self.stride, *self.dilation)
        _require(min(sizes + spatial) >= 1, self, "sizes, strides and dilations must be positive")
        _require(min(self.padding) >= 0, self, "padding must not be negative")
        grouped = self.in_channels % self.groups or self.out_channels % self.groups
        _require(not grouped, self, "groups must divide both channel counts")
        _require(min(self.out_size) >= 1, self, "the padded input is smaller than the kernel")
        for shape in (self.input_shape, self.weight_shape, self.output_shape):
            _require_size(math.prod(shape), self)

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        raise NotImplementedError

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, NCHW."""
        return self.batch, self.in_channels, self.in_height, self.in_width

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight."""
        raise NotImplementedError

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, NCHW."""
        return self.batch, self.out_channels, *self.out_size


@dataclass(frozen=True)
class Convolution(_Filtered):
    """2-D convolution (1-D: height 1).

    Input [batch, in_channels, in_height, in_width] (NCHW), weight [out_channels,
    in_channels / groups, *kernel] (OIHW), output NCHW. ``padding`` is (top, left,
    bottom, right) in zeros; those with zeros count as multiply-accumulates.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        top, left, bottom, right = self.padding
        padded = (self.in_height + top + bottom) * (self.in_width + left + right)
        _require_size(self.batch * self.in_channels * padded, self)

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        return _window_out_size(self)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight, OIHW."""
        return self.out_channels, self.in_channels // self.groups, *self.kernel

    @property
    def is_depthwise(self) -> bool:
        """Whether every input channel has filters of its own."""
        return self.groups > 1 and self.groups == self.in_channels

    @property
    def product_shape(self) -> ProductShape:
        """The matrix products it is: a row per output position, a column per channel."""
        m = self.batch * math.prod(self.out_size)
        k = self.in_channels // self.groups * math.prod(self.kernel)
        return ProductShape(self.groups, m, self.out_channels // self.groups, k)

    @property
    def macs(self) -> int:
        """Multiply-accumulates, those with padding's zeros included."""
        return self.product_shape.macs


@dataclass(frozen=True)
class TransposedConvolution(_Filtered):
    """2-D transposed convolution: the gradient of ``Convolution`` (1-D: height 1).

    Input [batch, in_channels, in_height, in_width], weight [in_channels, out_channels /
    groups, *kernel] (IOHW), output [batch, out_channels, *out_size] with out = (in - 1) stride
    + dilation (kernel - 1) + 1 - paddings + output_padding.
    """

    output_padding: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(min(self.output_padding) >= 0, self, "padding must not be negative")

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        top, left, bottom, right = self.padding
        height = (self.in_height - 1) * self.stride[0] + self.dilation[0] * (self.kernel[0] - 1) + 1
        width = (self.in_width - 1) * self.stride[1] + self.dilation[1] * (self.kernel[1] - 1) + 1
        return (
            height - top - bottom + self.output_padding[0],
            width - left - right + self.output_padding[1],
        )

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight, IOHW."""
        return self.in_channels, self.out_channels // self.groups, *self.kernel

    @property
    def macs(self) -> int:
        """Multiply-accumulates: every input value times every weight that it meets."""
        return math.prod(self.input_shape) * math.prod(self.weight_shape[1:])


@dataclass(frozen=True)
class MatrixProduct:
    """Batched matrix product; all row-major.

    lhs [batch, m, k], rhs [batch, k, n] or, with ``rhs_batched`` False, [1, k, n]
    (the batch is then folded into the rows), output [batch, m, n].
    ``rhs_transposed``: rhs is [.., n, k].
    """

    batch: int
    m: int
    n: int
    k: int
    rhs_batched: bool = False
    rhs_transposed: bool = False

    def __post_init__(self) -> None:
        _require(min(self.batch, self.m, self.n, self.k) >= 1, self, "sizes must be positive")
        for shape in (self.input_shape, self.weight_shape, self.output_shape):
            _require_size(math.prod(shape), self)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the left-hand side."""
        return self.batch, self.m, self.k

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the right-hand side."""
        inner = (self.n, self.k) if self.rhs_transposed else (self.k, self.n)
        return (self.batch if self.rhs_batched else 1, *inner)

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


@dataclass(frozen=True)
class Pooling:
    """2-D pooling of [batch, channels, in_height, in_width]; ``out_size`` as a convolution's.

    ``count_padding``: whether an average counts padding's zeros; else it divides by the values
    that are there.
    """

    kind: Literal["max", "average"]
    batch: int
    channels: int
    in_height: int
    in_width: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    count_padding: bool = False

    def __post_init__(self) -> None:
        sizes = (self.batch, self.channels, self.in_height, self.in_width)
        spatial = (*self.kernel, *self.stride, *self.dilation)
        _require(min(sizes + spatial) >= 1, self, "sizes, strides and dilations must be positive")
        _require(min(self.padding) >= 0, self, "padding must not be negative")
        _require(min(self.out_size) >= 1, self, "the padded input is smaller than the kernel")
        _require_size(math.prod(self.input_shape), self)

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        return _window_out_size(self)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, NCHW."""
        return self.batch, self.channels, self.in_height, self.in_width

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, NCHW."""
        return self.batch, self.channels, *self.out_size

    @property
    def macs(self) -> int:
        """None: pooling is not counted."""
        return 0


@dataclass(frozen=True)
class Elementwise:
    """One or two tensors of ``shape``, value by value.

    kind: "identity" (one input, for its activation alone), "add", "multiply" or "maximum".
    The second input has the same shape, or is [n] over the last axis (``vector``).
    """

    kind: Literal["identity", "add", "multiply", "maximum"]
    shape: tuple[int, ...]
    vector: bool = False

    def __post_init__(self) -> None:
        _require(min(self.shape, default=0) >= 1, self, "sizes must be positive")
        _require_size(math.prod(self.shape), self)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return self.shape

    @property
    def macs(self) -> int:
        """None: not counted."""
        return 0


@dataclass(frozen=True)
class _Rows:
    """A layer over the last axis of [rows, columns]."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        _require(min(self.rows, self.columns) >= 1, self, "sizes must be positive")
        _require_size(self.rows * self.columns, self)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return self.rows, self.columns

    @property
    def macs(self) -> int:
        """None: not counted."""
        return 0


@dataclass(frozen=True)
class Softmax(_Rows):
    """Softmax over the last axis of [rows, columns]."""


@dataclass(frozen=True)
class LayerNorm(_Rows):
    """Normalisation over the last axis of [rows, columns], then scale [columns], shift [columns].

    Inputs: the tensor, the scale, and with ``shifted`` the shift.
    """

    epsilon: float
    shifted: bool = True


Product = Convolution | TransposedConvolution | MatrixProduct
Layer = Product | Pooling | Elementwise | Softmax | LayerNorm | Move


def _window_out_size(layer: Convolution | Pooling) -> tuple[int, int]:
    top, left, bottom, right = layer.padding
    sizes = (layer.in_height + top + bottom, layer.in_width + left + right)
    reaches = [d * (k - 1) + 1 for k, d in zip(layer.kernel, layer.dilation, strict=True)]
    height, width = (
        (size - reach) // stride + 1
        for size, reach, stride in zip(sizes, reaches, layer.stride, strict=True)
    )
    return height, width
