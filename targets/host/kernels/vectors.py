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


def overlapping_vectors(
    name: str, extent: int | Expr, lanes: int, body: Callable[[Expr], Stmt]
) -> Stmt:
    """As ``vector_loop``, but an extent that is not a multiple ends in a vector that starts
    early, and one below ``lanes`` takes narrower vectors: no single elements down to 2.

    ``body`` must be free to run twice for an element.
    """
    size = constant_of(extent)
    if size is None or size < 2:
        return vector_loop(name, extent, lanes, body)
    while lanes > size:
        lanes //= 2

    def vector(i: Expr) -> Stmt:
        start = tirx.min(i * lanes, index(size - lanes)) if size % lanes else i * lanes
        return loop("lane", lanes, lambda v: body(start + v), VECTORIZED)

    return loop(name, index(-(-size // lanes)), vector)
