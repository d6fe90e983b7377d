"""The right operand in panels: ``b'[.., n / columns][k][columns]`` of ``b[.., k, n]``.

Integers of 8 bits are packed in pairs along k (``pairs``), or in fours of bytes where the machine
has VNNI, and the left operand too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.kernels.operand import Operand
from motet.targets.host.kernels.pairs import pair
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


def groups_in(length: Expr, size: int) -> Expr:
    """Groups of ``size`` in ``length`` values."""
    return simplify(tirx.floordiv(index(length) + (size - 1), index(size)))


def pack_left(
    packed: Buffer, a: Operand, k: Expr, parallel_: bool, lanes: int, size: int,
    joined: Callable[..., Expr],
) -> Stmt:  # fmt: skip
    """Fills ``packed`` [.., m, k / size] with groups of the left operand; what a last group has
    beyond k meets zeros. joined: the values of a group as one.
    """

    def row(*lead: Expr) -> Stmt:
        def element(i: Expr) -> Stmt:
            known = constant_of(k)
            places = [size * i + n for n in range(size)]
            if known is None or known % size:
                places[1:] = [tirx.min(at, index(k) - 1) for at in places[1:]]
            return store(packed, joined(*[a.at([*lead, at]) for at in places]), *lead, i)

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
