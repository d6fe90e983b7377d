"""Operators of ``com.microsoft`` that ONNX has too, or nearly, and others on whole tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend import tvm_converters
from motet.compiler.frontend.converters import (
    convolution,
    elementwise,
    fourier,
    indexing,
    padding,
    selecting,
    shaping,
)
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import Constant, constant

from .views import optional, plain


def _same(convert: Callable[[Node], Any], op_type: str, opset: int) -> Callable[[Node], Any]:
    """The converter of what the default domain has under a name, as of ``opset``."""

    def again(node: Node) -> Any:
        return convert(plain(node, op_type, node.inputs, opset, node.outputs, **node.attributes))

    return again


def expand_dims(node: Node) -> relax.Expr:
    """``ExpandDims``: a new axis of one before axis ``axis`` (input 1)."""
    axis = int(node.needed_constant(1, "axis").reshape(-1)[0])
    rank = node.rank()
    if not -rank - 1 <= axis <= rank:
        node.refuse(f"axis {axis} is out of range for rank {rank}")
    return relax.op.expand_dims(node.x(), axis)


def pad(node: Node) -> relax.Expr:
    """``Pad``, whose pads may have an axis of one in front."""
    pads = node.needed_constant(1, "pads").reshape(-1)
    value = optional(node, 2)
    if isinstance(value, Constant):
        value = Constant(value.array.reshape(()))
    return padding.pad(
        plain(node, "Pad", [node.value(0), Constant(pads), value], 13, **node.attributes)
    )


def unique(node: Node) -> list[Any]:
    """``Unique``: values in the order of their first places, places in them, and counts."""
    found = selecting.unique(plain(node, "Unique", [node.value(0)], 11, 4, sorted=0))
    return [found[i] for i in (0, 2, 3)][: node.outputs]


def c_dist(node: Node) -> relax.Expr:
    """``CDist``: (squared) Euclidean distances of the rows of two matrices."""
    metric = str(node.attr("metric", "sqeuclidean"))
    if metric not in ("sqeuclidean", "euclidean"):
        node.refuse(f"the metric '{metric}'")
    a = node.emit(relax.op.expand_dims(node.x(), 1))
    b = node.emit(relax.op.expand_dims(node.x(1), 0))
    apart = node.emit(relax.op.subtract(a, b))
    square = relax.op.sum(node.emit(relax.op.multiply(apart, apart)), [2])
    return relax.op.sqrt(node.emit(square)) if metric == "euclidean" else square


def _complex_product(conjugate: bool) -> Callable[[Node], relax.Expr]:
    """Products, with b or its conjugate, of complex numbers as a last axis of two."""

    def convert(node: Node) -> relax.Expr:
        rank = max(node.rank(), node.rank(node.x(1)))
        (a, b), (c, d) = (_parts(node, node.x(i)) for i in range(2))
        d = node.emit(relax.op.negative(d)) if conjugate else d
        mul, add, sub = relax.op.multiply, relax.op.add, relax.op.subtract
        parts = [sub(mul(a, c), mul(b, d)), add(mul(a, d), mul(b, c))]
        return relax.op.concat([node.emit(p) for p in parts], rank - 1)

    return convert


def _parts(node: Node, x: relax.Expr) -> list[relax.Expr]:
    last = node.rank(x) - 1
    if node.static(node.shape(x)[last:], "the axis of real and imaginary parts") != [2]:
        node.refuse("a last axis of other than two numbers, real and imaginary part")
    parts = node.emit(relax.op.split(x, 2, last))
    return [node.emit(relax.TupleGetItem(parts, i)) for i in range(2)]


def unfold_tensor(node: Node) -> relax.Expr:
    """``UnfoldTensor``: slices of ``size`` every ``step`` along ``dim``, on a new last axis."""
    rank, size, step = node.rank(), int(node.attr("size")), int(node.attr("step", 1))
    dim = node.normal_axis(int(node.attr("dim", -1)), rank)
    extent = node.static([node.shape()[dim]], "the unfolded axis")[0]
    count = (extent - size) // step + 1
    if count < 1 or step < 1:
        node.refuse(f"slices of {size} every {step} of an axis of {extent}")
    places = np.arange(count)[:, None] * step + np.arange(size)
    apart = node.emit(relax.op.take(node.x(), constant(places), dim, mode="clip"))
    order = [i for i in range(rank + 1) if i != dim + 1] + [dim + 1]
    return apart if order[-1] == dim + 1 == rank else relax.op.permute_dims(apart, order)


def conv_transpose_with_pads(node: Node) -> relax.Expr:
    """``ConvTransposeWithDynamicPads``, with pads that are known."""
    attributes = dict(node.attributes)
    if node.has(2):
        attributes["pads"] = [int(v) for v in node.needed_constant(2, "Pads").reshape(-1)]
    inputs = [node.value(0), node.value(1), optional(node, 3)]
    return convolution.conv_transpose(plain(node, "ConvTranspose", inputs, 11, **attributes))


def rfft(node: Node) -> relax.Expr:
    """``Rfft`` along the last axis: ``n // 2 + 1`` complex numbers."""
    _check_transform(node)
    rank = node.rank()
    x = node.emit(relax.op.expand_dims(node.x(), rank))
    return fourier.dft(plain(node, "DFT", [x], 17, axis=rank - 1, onesided=1))


def irfft(node: Node) -> relax.Expr:
    """``Irfft``: ``2 (bins - 1)`` real numbers of ``bins`` complex ones, as a product."""
    _check_transform(node)
    *lead, bins, _ = node.shape()
    bins = node.static([bins], "the transformed axis")[0]
    samples = 2 * (bins - 1)
    if not 0 < samples <= 4096:
        node.refuse(f"a transform of {samples} samples")
    turns = np.outer(np.arange(bins), np.arange(samples)) % samples
    angle = 2 * np.pi * turns / samples
    twice = np.full((bins, 1), 2.0)
    twice[[0, -1]] = 1.0  # what has no mirror image
    waves = np.stack([twice * np.cos(angle), -twice * np.sin(angle)], 1) / samples
    flat = node.emit(relax.op.reshape(node.x(), relax.ShapeExpr([*lead, 2 * bins])))
    return relax.op.matmul(flat, constant(waves.reshape(2 * bins, samples).astype(node.dtype())))


def _check_transform(node: Node) -> None:
    for name, only in (("signal_ndim", 1), ("normalized", 0), ("onesided", 1)):
        if node.attr(name, only) != only:
            node.refuse(f"{name} = {node.attr(name)}: only {only} is supported")


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "CDist": c_dist,
    "ComplexMul": _complex_product(conjugate=False),
    "ComplexMulConj": _complex_product(conjugate=True),
    "ConvTransposeWithDynamicPads": conv_transpose_with_pads,
    "ExpandDims": expand_dims,
    "GatherND": _same(indexing.gather_nd, "GatherND", 13),
    "GridSample": _same(tvm_converters.convert, "GridSample", 16),
    "Irfft": irfft,
    "Pad": pad,
    "Rfft": rfft,
    "SampleOp": _same(elementwise.identity, "Identity", 13),
    "Trilu": _same(shaping.trilu, "Trilu", 14),
    "UnfoldTensor": unfold_tensor,
    "Unique": unique,
}
