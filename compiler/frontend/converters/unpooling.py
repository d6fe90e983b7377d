"""Maxima with their places: MaxPool's output of indices, and MaxUnpool that puts them back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product as places
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import constant

from .windows import Window


def max_pool_with_indices(node: Node, win: Window) -> list[relax.Expr]:
    """The maximum of every window, and where it was in the flattened input.

    The windows' taps become slices of the padded input side by side; the place of the
    largest of them says which cell it was. ``storage_order`` 1 counts columns first.
    """
    rank = len(win.kernel)
    if rank > 3:
        node.refuse(f"{rank} spatial axes: at most 3 are supported")
    n, channels, *spatial = node.static(
        node.shape(), "the shape of an input whose places are asked"
    )
    taps = list(places(*(range(k) for k in win.kernel)))
    outputs = [
        (e + win.before[i] + win.padding[rank + i] - (win.kernel[i] - 1) * win.dilations[i] - 1)
        // win.strides[i] + 1
        for i, e in enumerate(spatial)
    ]  # fmt: skip
    padded = _padded(node, win)
    slices = [_tap(node, padded, tap, win, outputs) for tap in taps]
    stacked = node.emit(relax.op.stack(slices, 0))
    chosen = node.emit(relax.op.argmax(stacked, 0))
    values = node.emit(relax.op.max(stacked, [0]))
    table = _places(taps, win, spatial, outputs, bool(node.attr("storage_order", 0)))
    table = table.reshape(len(taps), 1, 1, *outputs)
    cell = node.emit(relax.op.gather_elements(
        node.emit(relax.op.broadcast_to(constant(table), (len(taps), n, channels, *outputs))),
        node.emit(relax.op.expand_dims(chosen, 0)), 0,
    ))  # fmt: skip
    planes = np.arange(n * channels).reshape(n, channels, *[1] * rank) * int(np.prod(spatial))
    return [values, relax.op.add(relax.op.squeeze(cell, [0]), constant(planes.astype(np.int64)))]


def _padded(node: Node, win: Window) -> relax.Expr:
    """The input with cells around it that no maximum takes."""
    rank = len(win.kernel)
    after = win.padding[rank:]
    if not any((*win.before, *after)):
        return node.x()
    widths = [0, 0, 0, 0]
    for before, behind in zip(win.before, after, strict=True):
        widths += [before, behind]
    dtype = np.dtype(node.dtype())
    lowest = -np.inf if dtype.kind == "f" else np.iinfo(dtype).min
    return node.emit(relax.op.nn.pad(node.x(), widths, "constant", float(lowest)))


def _tap(
    node: Node, padded: relax.Expr, tap: tuple[int, ...], win: Window, outputs: list[int]
) -> relax.Expr:
    """What tap ``tap`` sees in every window."""
    begins = [t * d for t, d in zip(tap, win.dilations, strict=True)]
    ends = [b + (o - 1) * s + 1 for b, o, s in zip(begins, outputs, win.strides, strict=True)]
    axes = list(range(2, 2 + len(tap)))
    return node.emit(relax.op.strided_slice(padded, axes, begins, ends, list(win.strides)))


def _places(
    taps: list[tuple[int, ...]], win: Window, spatial: list[int], outputs: list[int], columns: bool
) -> Any:
    """The flattened cell that every tap of every window reads, ``[taps, *outputs]`` int64."""
    order = list(range(len(spatial)))
    extents = [1]
    for axis in order if columns else reversed(order):  # step between neighbours of each axis
        extents.append(extents[-1] * spatial[axis])
    steps = dict(zip(order if columns else reversed(order), extents, strict=False))
    total = np.zeros((len(taps), *outputs), np.int64)
    for axis, step in steps.items():
        starts = np.arange(outputs[axis]) * win.strides[axis] - win.before[axis]
        offsets = np.array([tap[axis] for tap in taps]) * win.dilations[axis]
        shape = [len(taps), *(o if a == axis else 1 for a, o in enumerate(outputs))]
        total += (offsets[:, None] + starts).reshape(shape) * step
    return total


def max_unpool(node: Node) -> relax.Expr:
    """MaxUnpool: values at their places in zeros; a larger ``output_shape`` is filled up.

    Places count in the shape that the attributes give, as in onnx's definition.
    """
    dims = node.static(node.shape(), "the shape of its input")
    kernel = list(node.attr("kernel_shape"))
    rank = len(kernel)
    strides = list(node.attr("strides") or [1] * rank)
    pads = list(node.attr("pads") or [0] * 2 * rank)
    inferred = dims[:2] + [
        (dims[i + 2] - 1) * strides[i] - pads[i] - pads[rank + i] + kernel[i] for i in range(rank)
    ]
    count = int(np.prod(dims))
    zeros = relax.op.zeros((int(np.prod(inferred)),), node.dtype())
    flat = relax.op.reshape(relax.op.astype(node.x(1), "int64"), (count,))
    values = relax.op.reshape(node.x(), (count,))
    filled = node.emit(relax.op.scatter_elements(node.emit(zeros), flat, values, 0))
    result = node.emit(relax.op.reshape(filled, inferred))
    if not node.has(2):
        return result
    wanted = [int(d) for d in node.needed_constant(2, "output_shape")]
    if len(wanted) != len(inferred) or any(w < i for w, i in zip(wanted, inferred, strict=True)):
        node.refuse(f"output_shape {wanted} is smaller than {inferred}")
    widths = [e for w, i in zip(wanted, inferred, strict=True) for e in (0, w - i)]
    return relax.op.nn.pad(result, widths) if any(widths) else result


CONVERTERS: dict[str, Callable[[Node], Any]] = {"MaxUnpool": max_unpool}
