"""Fourier transforms as products with constant matrices of cosines and sines.

ONNX keeps complex numbers as a last axis of two. A transform of ``n`` samples is the
product with ``exp(-2 pi i j k / n)`` (Cooley's fast algorithm would pay from some
thousands of samples on; the windows of audio models have a few hundred).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import constant

_MAX_SAMPLES = 4096


def _waves(samples: int, bins: int, sign: float) -> NDArray[np.complex128]:
    """``exp(sign 2 pi i j k / samples)``, ``[bins, samples]``."""
    turns = np.outer(np.arange(bins), np.arange(samples)) % samples
    return np.asarray(np.exp(sign * 2j * np.pi * turns / samples))


def _bins(node: Node, samples: int, one_sided: bool) -> int:
    if not 0 < samples <= _MAX_SAMPLES:
        node.refuse(f"a transform of {samples} samples: 1 to {_MAX_SAMPLES} are supported")
    return samples // 2 + 1 if one_sided else samples


def stft(node: Node) -> relax.Expr:
    """STFT of a real signal: a strided convolution with windowed cosines and sines."""
    step = int(node.needed_constant(1, "frame_step"))
    window = node.needed_constant(2, "window") if node.has(2) else None
    given = int(node.needed_constant(3, "frame_length")) if node.has(3) else None
    length = given if window is None else len(window)
    if length is None or given not in (None, length):
        node.refuse("its window and frame_length disagree, or both are missing")
    dims = node.shape()
    if len(dims) == 3 and dims[2] != 1:
        node.refuse("a complex signal")
    bins = _bins(node, length, bool(node.attr("onesided", 1)))
    waves = _waves(length, bins, -1.0) * (1.0 if window is None else window.astype(np.float64))
    weights = np.concatenate([waves.real, waves.imag])[:, None].astype(node.dtype())
    signal = relax.op.reshape(node.x(), relax.ShapeExpr([dims[0], 1, dims[1]]))
    parts = node.emit(relax.op.nn.conv1d(node.emit(signal), constant(weights), strides=step))
    batch, _, frames = node.shape(parts)
    apart = node.emit(relax.op.reshape(parts, relax.ShapeExpr([batch, 2, bins, frames])))
    return relax.op.permute_dims(apart, [0, 3, 2, 1])


def dft(node: Node) -> relax.Expr:
    """DFT along an axis of a real or complex tensor, whole or one-sided, or its inverse.

    The axis is first cut, or extended with zeros, to ``dft_length``.
    """
    rank, dims = node.rank(), node.shape()
    if node.opset >= 20:
        axis = int(node.needed_constant(2, "axis").reshape(())) if node.has(2) else -2
    else:
        axis = int(node.attr("axis", 1))
    axis = node.normal_axis(axis, rank)
    extent, parts = node.static([dims[axis], dims[-1]], "the transformed axis")
    if axis == rank - 1:
        node.refuse("a transform along the axis of real and imaginary parts")
    inverse, one_sided = bool(node.attr("inverse", 0)), bool(node.attr("onesided", 0))
    samples = 2 * (extent - 1) if inverse and one_sided else extent
    if node.has(1):
        samples = int(node.needed_constant(1, "dft_length").reshape(()))
    bins = _bins(node, samples, one_sided)
    if inverse and one_sided:
        return _along(node, axis, _real_inverse(node, samples, bins))
    waves = _waves(samples, bins, 1.0) / samples if inverse else _waves(samples, bins, -1.0)
    # [samples, parts in, bins, parts out]: (re + i im) w = (re c - im s) + i (re s + im c)
    matrix = np.stack([waves.real, waves.imag], -1).transpose(1, 0, 2)[:, None]
    if parts == 2:
        turned = np.stack([-waves.imag, waves.real], -1).transpose(1, 0, 2)[:, None]
        matrix = np.concatenate([matrix, turned], 1)
    return _along(node, axis, matrix)


def _real_inverse(node: Node, samples: int, bins: int) -> NDArray[np.float64]:
    """``[bins, parts in, samples, 1]``: a spectrum's half to the real signal.

    The other half is its mirrored conjugate.
    """
    if node.shape()[-1] != 2:
        node.refuse("a one-sided inverse of a real tensor")
    waves = _waves(samples, bins, 1.0) / samples
    waves[1 : samples - bins + 1] *= 2  # those that have a mirror image
    return np.stack([waves.real, -waves.imag], 1)[..., None]


def _along(node: Node, axis: int, matrix: NDArray[np.float64]) -> relax.Expr:
    """The product of ``[entries, parts in, bins, parts out]`` with the axis and its parts.

    Of an axis that is longer, only the first entries count; what a shorter one lacks is 0.
    """
    rank, dims = node.rank(), node.shape()
    used = min(int(dims[axis]), len(matrix))
    _, parts, bins, out = matrix.shape
    order = [i for i in range(rank) if i not in (axis, rank - 1)] + [axis, rank - 1]
    lead = [dims[i] for i in order[:-2]]
    x = node.x()
    if used < dims[axis]:
        x = node.emit(relax.op.strided_slice(x, [axis], [0], [used]))
    if order != list(range(rank)):
        x = node.emit(relax.op.permute_dims(x, order))
    x = node.emit(relax.op.reshape(x, relax.ShapeExpr([*lead, used * parts])))
    flat = matrix[:used].reshape(used * parts, bins * out).astype(node.dtype())
    y = node.emit(relax.op.matmul(x, constant(np.ascontiguousarray(flat))))
    y = node.emit(relax.op.reshape(y, relax.ShapeExpr([*lead, bins, out])))
    if order == list(range(rank)):
        return y
    return relax.op.permute_dims(y, [order.index(i) for i in range(rank)])


CONVERTERS: dict[str, Callable[[Node], Any]] = {"STFT": stft, "DFT": dft}
