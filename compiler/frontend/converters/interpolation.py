"""The weights of ONNX Resize along one axis, as its specification defines them.

Every output cell maps to a coordinate of the input (``coordinates``); nearest takes one
cell, linear and cubic take weighted neighbours. Resize is separable, so these weights
per axis say all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """One resized axis: cells in and out, the scale, and the region of interest."""

    extent: int
    output: int
    scale: float
    start: float = 0.0
    end: float = 1.0


def coordinates(axis: Axis, mode: str) -> Floats:
    """Input coordinate of every output cell, ``[output]``.

    ``align_corners`` takes the output for as wide as the scale says, as onnx's evaluator and
    its official tests do; onnxruntime takes the whole cells.
    """
    i = np.arange(axis.output, dtype=np.float64)
    last = axis.extent - 1
    half = (i + 0.5) / axis.scale - 0.5
    if mode == "align_corners":
        width = axis.scale * axis.extent
        return i * last / (width - 1) if axis.output > 1 else i * 0.0
    if mode == "asymmetric":
        return i / axis.scale
    if mode == "pytorch_half_pixel":
        return half if axis.output > 1 else i * 0.0
    if mode == "tf_half_pixel_for_nn":
        return (i + 0.5) / axis.scale
    if mode == "half_pixel_symmetric":
        adjustment = axis.output / (axis.scale * axis.extent)
        return axis.extent / 2 * (1 - adjustment) + half
    if mode == "tf_crop_and_resize":
        if axis.output == 1:
            return i * 0.0 + 0.5 * (axis.start + axis.end) * last
        return axis.start * last + i * (axis.end - axis.start) * last / (axis.output - 1)
    return half


def nearest(x: Floats, rounding: str, extent: int) -> NDArray[np.int64]:
    """The input cell of every output cell."""
    if rounding == "floor":
        cells = np.floor(x)
    elif rounding == "ceil":
        cells = np.ceil(x)
    elif rounding == "round_prefer_ceil":
        cells = np.floor(x + 0.5)
    else:
        cells = np.ceil(x - 0.5)
    return np.clip(cells, 0, extent - 1).astype(np.int64)


def _linear(distance: Floats) -> Floats:
    return np.asarray(np.clip(1 - np.abs(distance), 0, 1))


def _cubic(distance: Floats, a: float) -> Floats:
    """Keys' cubic convolution kernel with parameter ``a``."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.asarray(np.where(d <= 1, near, np.where(d < 2, far, 0.0)))


def matrix(
    axis: Axis, x: Floats, mode: str, cubic_a: float, antialias: bool, exclude_outside: bool
) -> Floats:
    """Weights ``[output, input]`` of linear or cubic interpolation at coordinates ``x``.

    Cells beyond the edges repeat the edge, or with ``exclude_outside`` count for nothing.
    """
    squeeze = min(axis.scale, 1.0) if antialias else 1.0
    support = 1 if mode == "linear" else 2
    first = int(np.floor(-support / squeeze)) + 1
    steps = np.arange(first, 2 * support - first)
    base = np.ceil(x) - 1
    distance = squeeze * (steps[None, :] - (x - base)[:, None])
    weights = _linear(distance) if mode == "linear" else _cubic(distance, cubic_a)
    cells = (base[:, None] + steps[None, :]).astype(np.int64)
    if exclude_outside:
        weights = np.where((cells < 0) | (cells >= axis.extent), 0.0, weights)
    if exclude_outside or antialias:
        weights = weights / weights.sum(axis=1, keepdims=True)
    result = np.zeros((axis.output, axis.extent))
    rows = np.broadcast_to(np.arange(axis.output)[:, None], cells.shape)
    np.add.at(result, (rows, np.clip(cells, 0, axis.extent - 1)), weights)
    return result
