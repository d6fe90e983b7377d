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
    """DFT along an axis of a real or complex tensor, whole or one-sided, or its inverse."""
    rank, dims = node.rank(), node.shape()
    if node.opset >= 20:
        axis = int(node.needed_constant(2, "axis")) if node.has(2) else -2
    else:
        axis = int(node.attr("axis", 1))
    axis = node.normal_axis(axis, rank)
    samples = node.static([dims[axis]], "the transformed axis")[0]
    inverse, parts = bool(node.attr("inverse", 0)), int(dims[-1])
    if axis == rank - 1:
        node.refuse("a transform along the axis of real and imaginary parts")
    if inverse and node.attr("onesided", 0):
        return _real_inverse(node, axis, samples)
    if node.has(1) and int(node.needed_constant(1, "dft_length")) != samples:
        node.refuse("a dft_length other than the extent of its axis")
    bins = _bins(node, samples, bool(node.attr("onesided", 0)))
    waves = _waves(samples, bins, 1.0) / samples if inverse else _waves(samples, bins, -1.0)
    # [samples, parts in, bins, parts out]: (re + i im) w = (re c - im s) + i (re s + im c)
    matrix = np.stack([waves.real, waves.imag], -1).transpose(1, 0, 2)[:, None]
    if parts == 2:
        turned = np.stack([-waves.imag, waves.real], -1).transpose(1, 0, 2)[:, None]
        matrix = np.concatenate([matrix, turned], 1)
    flat = matrix.reshape(samples * parts, bins * 2).astype(node.dtype())
    return _along(node, axis, constant(np.ascontiguousarray(flat)), bins, 2)


def _real_inverse(node: Node, axis: int, bins: int) -> relax.Expr:
    """The real signal of one half of a spectrum; the other half is its mirrored conjugate."""
    length = int(node.needed_constant(1, "dft_length")) if node.has(1) else 2 * (bins - 1)
    if node.shape()[-1] != 2 or length // 2 + 1 != bins:
        node.refuse(f"{bins} complex bins of a signal of {length} samples")
    waves = _waves(length, bins, 1.0) / length
    waves[1 : length - bins + 1] *= 2  # those that have a mirror image
    # [bins, parts in, samples]: the real part of (re + i im) w
    matrix = np.stack([waves.real, -waves.imag], 1)
    flat = matrix.reshape(bins * 2, length).astype(node.dtype())
    return _along(node, axis, constant(np.ascontiguousarray(flat)), length, 1)


def _along(node: Node, axis: int, matrix: relax.Expr, bins: int, parts: int) -> relax.Expr:
    """The product of ``matrix`` with the axis and the parts, brought together for it.

    The result has ``bins`` along the axis, and ``parts`` at the end.
    """
    rank, dims = node.rank(), node.shape()
    order = [i for i in range(rank) if i not in (axis, rank - 1)] + [axis, rank - 1]
    lead = [dims[i] for i in order[:-2]]
    x = node.x() if order == list(range(rank)) else relax.op.permute_dims(node.x(), order)
    joined = [*lead, int(dims[axis]) * int(dims[-1])]
    x = node.emit(relax.op.reshape(node.emit(x), relax.ShapeExpr(joined)))
    y = node.emit(relax.op.matmul(x, matrix))
    y = node.emit(relax.op.reshape(y, relax.ShapeExpr([*lead, bins, parts])))
    if order == list(range(rank)):
        return y
    return relax.op.permute_dims(y, [order.index(i) for i in range(rank)])


CONVERTERS: dict[str, Callable[[Node], Any]] = {"STFT": stft, "DFT": dft}
