"""Loops over contiguous elements, in vectors and a tail of single elements."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from motet.targets.host.loops import VECTORIZED, Expr, Stmt, constant_of, index, loop, seq


def vector_loop(name: str, extent: int | Expr, lanes: int, body: Callable[[Expr], Stmt]) -> Stmt:
    """``for name in range(extent): body(name)``, ``lanes`` iterations at a time."""
    size = constant_of(extent)
    if lanes == 1 or (size is not None and size < lanes):
        return loop(name, extent, body)
    whole = tirx.floordiv(index(extent), index(lanes)) if size is None else index(size // lanes)
    main = loop(
        name, whole, lambda i: loop("lane", lanes, lambda v: body(i * lanes + v), VECTORIZED)
    )
    if size is not None and size % lanes == 0:
        return main
    rest = index(extent) - whole * lanes if size is None else index(size % lanes)
    return seq(main, loop(f"{name}_tail", rest, lambda i: body(whole * lanes + i)))
