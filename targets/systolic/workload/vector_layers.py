"""Layers whose operands are vectors of integers with a scale each; sizes count vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass

from motet.targets.systolic.workload.layers import Convolution, MatrixProduct


@dataclass(frozen=True)
class VectorConvolution(Convolution):
    """2-D convolution of vectors; channels are vectors of ``length`` integers and lie last.

    Input [batch, in_height, in_width, in_channels], weight [out_channels, *kernel, in_channels /
    groups] of vectors; output NCHW, of single values. Multiply-accumulates count the zeros that
    fill a group's last vector unless ``depth`` says how many channels a group has.
    """

    length: int = 16
    depth: int = 0

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input in vectors, NHWC."""
        return self.batch, self.in_height, self.in_width, self.in_channels

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight in vectors, OHWI."""
        return self.out_channels, *self.kernel, self.in_channels // self.groups

    @property
    def is_depthwise(self) -> bool:
        """Never: a vector is of several channels."""
        return False

    @property
    def macs(self) -> int:
        """Multiply-accumulates of integers."""
        groups, m, n, k = self.product_shape
        each = self.depth * math.prod(self.kernel) if self.depth else k * self.length
        return groups * m * n * each


@dataclass(frozen=True)
class VectorProduct(MatrixProduct):
    """Matrix product of vectors along ``k``, which counts vectors of ``length`` integers.

    ``depth``: the integers along k that are more than zeros behind the last; 0: all.
    """

    length: int = 16
    depth: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of integers."""
        return self.batch * self.m * self.n * (self.depth or self.k * self.length)
