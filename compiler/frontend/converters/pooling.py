"""Pooling, with ONNX's way of counting cells and of rounding sizes up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import constant

from .unpooling import max_pool_with_indices
from .windows import Window, window, with_known_type

_LAYOUTS = {1: "NCW", 2: "NCHW", 3: "NCDHW"}


def _window(node: Node) -> Window:
    kernel = list(node.attr("kernel_shape"))
    rank = node.rank() - 2
    if len(kernel) != rank or rank not in _LAYOUTS:
        node.refuse(f"kernel_shape {kernel} for an input of rank {rank + 2}")
    return window(node, kernel, list(node.shape()[2:]))


def _pool(node: Node, x: relax.Expr, win: Window, kind: str, include_pad: bool) -> relax.Expr:
    rank = len(win.kernel)
    operator = getattr(relax.op.nn, f"{kind}_pool{rank}d")
    pooled = operator(
        x,
        pool_size=win.kernel,
        strides=win.strides,
        padding=win.padding,
        dilation=win.dilations,
        ceil_mode=False,
        count_include_pad=include_pad,
        layout=_LAYOUTS[rank],
    )
    return with_known_type(node, pooled, node.shape()[1], win)


def max_pool(node: Node) -> Any:
    """MaxPool; where its places are asked too, it is written tap by tap."""
    if node.outputs > 1:
        return max_pool_with_indices(node, _window(node))
    return _pool(node, node.x(), _window(node), "max", False)


def average_pool(node: Node) -> relax.Expr:
    """AveragePool; cells that only rounding up added never count."""
    win, include = _window(node), bool(node.attr("count_include_pad", 0))
    plain = not any(win.extra) and all(d == 1 for d in win.dilations)
    if plain or not any(win.padding):
        return _pool(node, node.x(), win, "avg", include)
    total = _sum(node, node.x(), win)
    counts = _counts(node, win, include)
    return relax.op.divide(total, constant(counts.astype(node.dtype())))


def _sum(node: Node, x: relax.Expr, win: Window) -> relax.Expr:
    """Sums over windows: the average with every cell counted, times the cells."""
    average = node.emit(_pool(node, x, win, "avg", True))
    return relax.op.multiply(average, node.scalar(float(np.prod(win.kernel))))


def _counts(node: Node, win: Window, include: bool) -> np.ndarray[Any, Any]:
    """Cells that count in each window, broadcast to ``[1, 1, *output]``."""
    spatial = node.static(node.shape()[2:], "sizes of a dilated or rounded-up average")
    counts = np.ones([1, 1] + [1] * len(spatial))
    for i, extent in enumerate(spatial):
        ends = win.padding[len(spatial) + i]
        low = -win.before[i] if include else 0
        high = extent + (win.after[i] if include else 0)
        reach = (win.kernel[i] - 1) * win.dilations[i] + 1
        outputs = (extent + win.before[i] + ends - reach) // win.strides[i] + 1
        starts = np.arange(outputs) * win.strides[i] - win.before[i]
        cells = starts[:, None] + np.arange(win.kernel[i]) * win.dilations[i]
        inside = ((cells >= low) & (cells < high)).sum(axis=1)
        counts = counts * inside.reshape([-1 if a == i + 2 else 1 for a in range(counts.ndim)])
    return counts


def lp_pool(node: Node) -> relax.Expr:
    """LpPool: the p-norm of every window."""
    p = float(node.attr("p", 2))
    powers = node.emit(relax.op.power(relax.op.abs(node.x()), node.scalar(p)))
    return relax.op.power(_sum(node, powers, _window(node)), node.scalar(1.0 / p))


def _spatial_axes(node: Node) -> list[int]:
    return list(range(2, node.rank()))


def global_lp_pool(node: Node) -> relax.Expr:
    """GlobalLpPool: the p-norm of every channel."""
    p = float(node.attr("p", 2))
    powers = relax.op.power(relax.op.abs(node.x()), node.scalar(p))
    total = relax.op.sum(powers, _spatial_axes(node), True)
    return relax.op.power(total, node.scalar(1.0 / p))


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "LpPool": lp_pool,
    "GlobalAveragePool": lambda n: relax.op.mean(n.x(), _spatial_axes(n), True),
    "GlobalMaxPool": lambda n: relax.op.max(n.x(), _spatial_axes(n), True),
    "GlobalLpPool": global_lp_pool,
}
