"""Loops over contiguous elements, in vectors and a tail of single elements."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from motet.targets.host.loops import VECTORIZED, Expr, Stmt, constant_of, index, loop, seq


def vector_loop(
    name: str, extent: int | Expr, lanes: int, body: Callable[[Expr], Stmt], together: int = 1
) -> Stmt:
    """``for name in range(extent): body(name)``, ``lanes`` iterations at a time.

    together: vectors of one iteration, so that constants stay in registers for all of them; what
    is left over runs as single vectors.
    """
    size = constant_of(extent)
    if size is not None and size < lanes * together:
        together = 1
    if lanes == 1 or (size is not None and size < lanes):
        return loop(name, extent, body)
    step = lanes * together
    whole = tirx.floordiv(index(extent), index(step)) if size is None else index(size // step)
    main = loop(name, whole, lambda i: loop("lane", step, lambda v: body(i * step + v), VECTORIZED))
    if size is not None and size % step == 0:
        return main
    rest = index(extent) - whole * step if size is None else index(size % step)
    tail, narrower = f"{name}_tail", lanes if together > 1 else 1
    return seq(main, vector_loop(tail, rest, narrower, lambda i: body(whole * step + i)))


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
