"""The right operand in panels: ``b'[.., n / columns][k][columns]`` of ``b[.., k, n]``.

Integers of 8 bits are packed in pairs along k (``pairs``), and the left operand too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.kernels.operand import Operand
from motet.targets.host.kernels.pairs import pair, pairs_along
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    constant_of,
    index,
    loop,
    parallel,
    round_up,
    simplify,
    store,
)  # fmt: skip


def pack_panels(b: NDArray[Any], columns: int) -> NDArray[Any]:
    """``[..][panels][k][columns]`` of ``b`` (.., k, n), zero-filled."""
    n = b.shape[-1]
    padded = np.zeros((*b.shape[:-1], round_up(n, columns)), b.dtype)
    padded[..., :n] = b
    panels = padded.reshape(*b.shape[:-1], -1, columns)
    return np.ascontiguousarray(np.moveaxis(panels, -2, -3))


def plain_or_paired(weight: NDArray[Any], paired: bool) -> NDArray[Any]:
    """``weight`` (.., k, n), in pairs along k where ``paired``."""
    return pairs_along(weight, -2) if paired else weight


def half(length: Expr) -> Expr:
    """Pairs in ``length`` values."""
    return simplify(tirx.floordiv(index(length) + 1, index(2)))


def pack_left_pairs(
    packed: Buffer, a: Operand, k: Expr, parallel_: bool, lanes: int,
    joined: Callable[[Expr, Expr], Expr] = pair,
) -> Stmt:  # fmt: skip
    """Fills ``packed`` [.., m, k / 2] with pairs of the left operand; the second value of an
    odd last pair meets a 0. joined: two values as one.
    """

    def row(*lead: Expr) -> Stmt:
        def element(i: Expr) -> Stmt:
            high = 2 * i + 1
            if constant_of(k) is None or (constant_of(k) or 0) % 2:
                high = tirx.min(high, index(k) - 1)
            return store(packed, joined(a.at([*lead, 2 * i]), a.at([*lead, high])), *lead, i)

        return vector_loop("i", packed.shape[-1], lanes, element)

    names = [f"a{i}" for i in range(len(packed.shape) - 1)]
    return parallel(names, list(packed.shape[:-1]), row, parallel_)


def _right_pair(b: Operand, lead: Sequence[Expr], r: Expr, column: Expr, k: Expr) -> Expr:
    high = b.at([*lead, tirx.min(2 * r + 1, index(k) - 1), column])
    zero = tirx.const(0, high.ty.dtype)
    return pair(b.at([*lead, 2 * r, column]), tirx.Select(2 * r + 1 < k, high, zero))


def pack_panel(
    packed: Buffer, at: Sequence[Expr], b: Operand, lead: Sequence[Expr], panel: Expr,
    n: Expr, pairs_of: Expr | None, lanes: int,
) -> Stmt:  # fmt: skip
    """Fills ``packed[at]`` [k][columns] with panel ``panel`` of ``b[lead]``.

    pairs_of: the length of the sums where they go in pairs.
    """
    k, columns = packed.shape[-2:]
    width = constant_of(columns) or 1
    size = constant_of(n)
    first = panel * width

    def row(r: Expr) -> Stmt:
        def element(i: Expr) -> Stmt:
            if pairs_of is not None:
                value = _right_pair(b, lead, r, first + i, pairs_of)
            else:
                value = b.at([*lead, r, first + i]).astype(packed.dtype)
            return store(packed, value, *at, r, i)

        whole = size is not None and size % width == 0
        count = width if whole else simplify(tirx.min(index(width), n - first))
        return vector_loop("i", count, lanes, element)

    return loop("k", k, row)


def pack_all(
    packed: Buffer, b: Operand, n: Expr, pairs_of: Expr | None, parallel_: bool, lanes: int
) -> Stmt:
    """Fills ``packed`` [..][panels][k][columns]."""
    *lead, panels, _, _ = packed.shape
    names = [f"b{i}" for i in range(len(lead))] + ["panel"]

    def panel(*at: Expr) -> Stmt:
        return pack_panel(packed, at, b, at[:-1], at[-1], n, pairs_of, lanes)

    return parallel(names, [*lead, panels], panel, parallel_)
