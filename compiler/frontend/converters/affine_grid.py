"""AffineGrid: where each cell of an image of known size comes from under affine maps.

The cells' own places are a constant; a map is one small matrix product with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import constant


def affine_grid(node: Node) -> relax.Expr:
    """``grid [N, (D,) H, W, r] = theta [N, r, r + 1] (place, 1)``, r the number of axes."""
    size = node.static(node.dims(1, "size"), "the size of its grid")[2:]
    places = _places(size, bool(node.attr("align_corners", 0))).astype(node.dtype())
    theta = node.emit(relax.op.permute_dims(node.x(), [0, 2, 1]))
    flat = node.emit(relax.op.matmul(constant(places), theta))
    return relax.op.reshape(flat, relax.ShapeExpr([node.shape()[0], *size, len(size)]))


def _places(size: Sequence[int], align_corners: bool) -> NDArray[np.float64]:
    """The cells' places from -1 to 1, innermost axis first, and 1: ``[cells, r + 1]``."""
    axes = [
        np.linspace(-1, 1, count) if align_corners else (2 * np.arange(count) + 1) / count - 1
        for count in size
    ]
    places = np.meshgrid(*axes, indexing="ij")
    return np.stack([*(p.reshape(-1) for p in reversed(places)), np.ones(places[0].size)], -1)


CONVERTERS: dict[str, Callable[[Node], Any]] = {"AffineGrid": affine_grid}
