"""Pad: ``R.nn.pad`` for constants, gathers with constant indices for the other modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend import late
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import Symbolic, Tensor, constant

from . import late_shapes

_NUMPY_MODES = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
_MODES = ("constant", *_NUMPY_MODES)


def pad(node: Node) -> relax.Expr:
    """Pad before and after every axis; negative pads cut."""
    mode = node.attr("mode", "constant")
    given = [node.inputs[i] if node.has(i) else None for i in (1, 2)]
    if any(isinstance(value, (Symbolic, Tensor)) for value in given) and mode in _MODES:
        return _late(node, mode)
    before, after = _widths(node)
    x = _cut(node, before, after)
    widths = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
    if not any(b or a for b, a in widths):
        return x
    if mode == "constant":
        flat = [w for pair in widths for w in pair]
        return relax.op.nn.pad(x, flat, "constant", _fill(node))
    if mode not in _NUMPY_MODES:
        node.refuse(f"mode '{mode}'")
    for axis, width in enumerate(widths):
        if any(width):
            extent = node.shape(x)[axis]
            if not isinstance(extent, int):
                x = node.emit(_around(node, x, axis, width, mode))
                continue
            indices = np.pad(np.arange(extent), width, mode=_NUMPY_MODES[mode])  # type: ignore[call-overload]
            x = node.emit(relax.op.take(x, constant(indices), axis, mode="clip"))
    return x


def _late(node: Node, mode: str) -> relax.Expr:
    """Pad by widths, or with a value, that the run computes."""
    axes, widths = _axes(node), node.x(1)
    if late.length_of(widths) != 2 * len(axes):
        node.refuse("how many pads it has is only known at run time", node.value(1))
    fill = node.inputs[2] if node.has(2) else None
    if isinstance(fill, Tensor):
        cell = node.emit(relax.op.reshape(fill.expr, []))
    else:
        cell = node.scalar(_fill(node))
    return late_shapes.padded(node, widths, axes, mode, cell)


def _around(node: Node, x: relax.Expr, axis: int, width: tuple[int, int], mode: str) -> relax.Expr:
    """``x`` between copies of its cells, counted from both ends of a symbolic axis."""
    before, after = (np.arange(w) for w in width)
    places = {
        "reflect": (before[::-1] + 1, -2 - after),
        "edge": (before * 0, after * 0 - 1),
        "wrap": (before - width[0], after),
    }[mode]
    sides = [
        [node.emit(relax.op.take(x, constant(p), axis, mode="wrap"))] if p.size else []
        for p in places
    ]
    return relax.op.concat([*sides[0], x, *sides[1]], axis)


def _widths(node: Node) -> tuple[list[int], list[int]]:
    pads = node.ints(1, "pads")
    if pads is None:
        node.refuse("its pads are missing")
    rank, axes = node.rank(), _axes(node)
    if len(pads) != 2 * len(axes):
        node.refuse(f"{len(pads)} pads for {len(axes)} axes")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[len(axes) + i]
    return before, after


def _axes(node: Node) -> list[int]:
    """The axes that the pads are for."""
    rank = node.rank()
    axes = node.ints(3, "axes") if node.opset >= 18 else None
    return list(range(rank)) if axes is None else [node.normal_axis(a, rank) for a in axes]


def _cut(node: Node, before: list[int], after: list[int]) -> relax.Expr:
    """The input without what negative pads take away."""
    axes = [i for i, (b, a) in enumerate(zip(before, after, strict=True)) if b < 0 or a < 0]
    if not axes:
        return node.x()
    dims = node.static([node.shape()[i] for i in axes], "an axis with negative pads")
    begin = [max(-before[i], 0) for i in axes]
    end = [extent - max(-after[i], 0) for i, extent in zip(axes, dims, strict=True)]
    return node.emit(relax.op.strided_slice(node.x(), axes, begin, end))


def _fill(node: Node) -> float:
    if node.opset < 11:
        return float(node.attr("value", 0.0))
    if not node.has(2):
        return 0.0
    return float(node.needed_constant(2, "constant_value").reshape(-1)[0])


CONVERTERS: dict[str, Callable[[Node], Any]] = {"Pad": pad}
