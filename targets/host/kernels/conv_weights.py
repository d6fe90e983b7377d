"""Convolution weights, a register tile's output channels side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.kernels.conv_geometry import Convolution
from motet.targets.host.kernels.operand import (
    Operand,
)  # fmt: skip
from motet.targets.host.kernels.pairs import pair
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    constant_of,
    index,
    nest,
    round_up,
    store,
)  # fmt: skip


def pack_weights(weights: NDArray[Any], groups: int, rows: int, transposed: bool) -> NDArray[Any]:
    """``[groups][blocks][ic][taps][rows]`` of weights (O, I/groups, *kernel), zero-filled;
    of weights (I, O/groups, *kernel), flipped, where ``transposed``.
    """
    if transposed:
        ic = weights.shape[0] // groups
        split = weights.reshape(groups, ic, weights.shape[1], *weights.shape[2:])
        split = np.flip(split, tuple(range(3, split.ndim))).swapaxes(1, 2)
    else:
        split = weights.reshape(groups, weights.shape[0] // groups, *weights.shape[1:])
    oc, ic = split.shape[1:3]
    flat = split.reshape(groups, oc, ic, -1)
    padded = np.zeros((groups, round_up(oc, rows), *flat.shape[2:]), weights.dtype)
    padded[:, :oc] = flat
    blocks = padded.reshape(groups, -1, rows, *flat.shape[2:])
    return np.ascontiguousarray(np.moveaxis(blocks, 2, -1))


def _weight_at(
    operand: Operand, conv: Convolution, kernel: Sequence[int], transposed: bool,
    group: Expr, o: Expr, ic: Expr, tap: Expr,
) -> Expr:  # fmt: skip
    taps: list[Expr] = []
    for k in reversed(kernel):
        t = tirx.floormod(tap, index(k))
        taps.insert(0, index(k - 1) - t if transposed else t)
        tap = tirx.floordiv(tap, index(k))
    if transposed:
        return operand.at([group * conv.ic + ic, o, *taps])
    return operand.at([group * conv.oc + o, ic, *taps])


def _zero(like: Expr) -> Expr:
    return tirx.const(0, like.ty.dtype)


def pack_weights_at_run_time(
    packed: Buffer, operand: Operand, conv: Convolution, kernel: Sequence[int], transposed: bool
) -> Stmt:
    """Fills ``packed`` from weights that are not known at compile time."""
    _, blocks, ic, taps, rows = [constant_of(d) or 0 for d in packed.shape]

    def weight(g: Expr, o: Expr, c: Expr, tap: Expr) -> Expr:
        return _weight_at(operand, conv, kernel, transposed, g, o, c, tap)

    def element(g: Expr, ob: Expr, c: Expr, tap: Expr, r: Expr) -> Stmt:
        o = ob * rows + r
        if conv.paired:
            high = weight(g, o, tirx.min(2 * c + 1, index(conv.channels - 1)), tap)
            inside = 2 * c + 1 < conv.channels
            value = pair(weight(g, o, 2 * c, tap), tirx.Select(inside, high, _zero(high)))
        else:
            value = weight(g, o, c, tap).astype(packed.dtype)
        if conv.oc % rows:
            value = tirx.if_then_else(o < conv.oc, value, tirx.const(0, packed.dtype))
        return store(packed, value, g, ob, c, tap, r)

    return nest("gbctr", [conv.groups, blocks, ic, taps, rows], element)
