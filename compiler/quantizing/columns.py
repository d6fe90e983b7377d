"""What an output of a product sums over, as columns in the order of its weights.

A product with constant weights is, for each of its groups, a matrix [outputs, K] by columns of
K elements of its data: a place of a MatMul's or Gemm's left operand, or what a convolution's
kernel reads at one position (im2col), padding as zeros. K counts input channels of the group,
then taps, as ONNX stores weights. Of a convolution only a sample of columns is made; their
mean comes from sums over each tap's window, over all positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product as combinations
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from motet.compiler.quantizing.products import Product
from motet.runtime.device import Array

Reals64 = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """How a convolution goes over its data; empty of a matrix product. pads: as ONNX has them."""

    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    auto: str = "NOTSET"

    def pairs(self, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
        """Zeros before and after every axis of ``sizes``, also where ``auto_pad`` says them."""
        rank = len(sizes)
        if self.auto not in ("SAME_UPPER", "SAME_LOWER"):
            pads = self.pads if self.auto == "NOTSET" else (0,) * (2 * rank)
            return list(zip(pads[:rank], pads[rank:], strict=True))
        found = []
        for size, k, s, d in zip(sizes, self.kernel, self.strides, self.dilations, strict=True):
            whole = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            less, more = whole // 2, whole - whole // 2
            found.append((less, more) if self.auto == "SAME_UPPER" else (more, less))
        return found


@dataclass(frozen=True)
class Columns:
    """The columns of one product.

    groups, outputs, depth: the weights are [groups, outputs / groups, depth] as matrices.
    turned: whether stored weights have the outputs last, data the sum first (Gemm's transA).
    """

    groups: int
    outputs: int
    depth: int
    window: Window = Window()
    turned_weights: bool = False
    turned_data: bool = False

    def matrices(self, weights: Array) -> Array:
        """Stored weights (or what has their shape) as [groups, outputs / groups, depth]."""
        rows = weights.T if self.turned_weights else weights
        return rows.reshape(self.groups, -1, self.depth)

    def stored(self, matrices: Array, shape: tuple[int, ...]) -> Array:
        """The inverse of ``matrices``."""
        if self.turned_weights:
            return np.ascontiguousarray(matrices.reshape(self.outputs, self.depth).T)
        return matrices.reshape(shape)

    def summed(self, data: Array) -> tuple[Reals64, int]:
        """The sum of all columns of ``data`` [groups, depth], and their number."""
        if not self.window.kernel:
            rows = self._rows(data)
            return rows.sum(0, dtype=np.float64)[None], len(rows)
        taps = self._taps(data)
        rest = (0, *range(2, data.ndim))
        sums = np.stack([tap.sum(rest, dtype=np.float64) for tap in taps], axis=-1)
        return sums.reshape(self.groups, -1), taps[0].size // taps[0].shape[1]

    def sample(self, data: Array, most: int, rng: np.random.Generator) -> Array:
        """At most ``most`` columns at random places: float32 [groups, depth, columns]."""
        if not self.window.kernel:
            rows = self._rows(data)
            return np.ascontiguousarray(rows[_places(len(rows), most, rng)].T[None])
        taps = self._taps(data)
        sizes = (taps[0].shape[0], *taps[0].shape[2:])
        places = np.unravel_index(_places(int(np.prod(sizes)), most, rng), sizes)
        at: Any = (places[0], slice(None), *places[1:])
        read = np.stack([tap[at] for tap in taps], axis=-1)  # [columns, channels, taps]
        return np.moveaxis(read.reshape(len(read), self.groups, -1), 0, -1)

    def _rows(self, data: Array) -> Array:
        return data.T if self.turned_data else data.reshape(-1, self.depth)

    def _taps(self, data: Array) -> list[Array]:
        """For every tap of the kernel, the view of the padded data that it reads."""
        window = self.window
        padded = np.pad(data, [(0, 0), (0, 0), *window.pairs(data.shape[2:])])
        geometry = list(zip(window.kernel, window.strides, window.dilations, strict=True))
        sizes = [
            (size - (k - 1) * d - 1) // s + 1
            for size, (k, s, d) in zip(padded.shape[2:], geometry, strict=True)
        ]
        return [
            padded[(slice(None), slice(None), *(
                slice(t * d, t * d + (n - 1) * s + 1, s)
                for t, n, (_, s, d) in zip(tap, sizes, geometry, strict=True)
            ))]
            for tap in combinations(*(range(k) for k in window.kernel))
        ]  # fmt: skip


def columns_of(product: Product, node: onnx.NodeProto) -> Columns | None:
    """The columns of ``product``, which is ``node``; None where its weights are no matrix."""
    weights = product.weights.values
    if weights is None:
        return None
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if product.operator == "Conv":
        depth = int(np.prod(weights.shape[1:]))
        window = _window(given, weights.shape[2:])
        return Columns(product.groups, len(weights), depth, window)
    if weights.ndim != 2:
        return None
    turned = product.weights.axes.reduction == 0
    depth, outputs = weights.shape if turned else weights.shape[::-1]
    return Columns(
        1, outputs, depth, turned_weights=turned, turned_data=bool(given.get("transA", 0))
    )


def _window(given: dict[str, Any], kernel: tuple[int, ...]) -> Window:
    rank = len(kernel)
    return Window(
        tuple(kernel),
        tuple(given.get("strides", (1,) * rank)),
        tuple(given.get("dilations", (1,) * rank)),
        tuple(given.get("pads", (0,) * (2 * rank))),
        given.get("auto_pad", b"NOTSET").decode(),
    )


def _places(count: int, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if count <= most:
        return np.arange(count)
    return np.sort(rng.integers(0, count, most))
