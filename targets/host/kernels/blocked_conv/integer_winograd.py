"""Winograd's convolutions F(2x2, 3x3) and F(4x4, 3x3) of bytes, exactly.

With the points 0, 1, -1, 2, -2 and infinity all matrices are whole numbers up to a common
denominator D of 2 or 24 (``winograd_matrices.integer_matrices``). Transformed bytes are below
100 * 255 and transformed weights of 8 bits below 144 * 128 in magnitude: both have 16 bits,
and ``pmaddwd`` multiplies and adds them two by two. Sums and the output transform are taken
modulo 2**32, which holds D**2 times the output: 4 or 576 times. The odd part of D**2 is divided
by multiplying with its inverse, the rest by a shift: exact where outputs keep within 2**25,
which ``fit_fours`` asks of the weights.

A tile of 4 x 4 needs 36 products of 16 bits in place of 144 of 8: with two instructions for 16
products (a chain has 2.5 for 32) about half the time of a direct convolution, where input
planes are large; the weights take 8 times the memory, and 32 / 9 times with tiles of 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.kernels.blocked_conv import winograd_cost
from motet.targets.host.kernels.blocked_conv.integer_groups import fit_fours
from motet.targets.host.kernels.blocked_conv.request import Request, Written, worth_threads
from motet.targets.host.kernels.blocked_conv.winograd import tile_points
from motet.targets.host.kernels.blocked_conv.winograd_matrices import (
    in_sweeps,
    integer_matrices,
    transformed_weights,
)
from motet.targets.host.kernels.blocked_conv.winograd_nest import write_nest
from motet.targets.host.kernels.blocked_conv.winograd_plan import plan_for
from motet.targets.host.kernels.blocked_conv.winograd_writing import Writing
from motet.targets.host.kernels.pairs import fenced, pair_product
from motet.targets.host.loops import Expr, broadcast, scratch
from motet.targets.host.machine import Machine
from motet.targets.host.space import Nest, Point, Problem

RATES = winograd_cost.Rates(multiply=0.34, element=2.0)
"""Cycles for a vector of outputs and an input channel (measured), bytes of transformed values."""
_DIRECT = winograd_cost.Rates(multiply=0.21, element=1.0)
_REGISTER_TILES = (6, 2, 1), (6, 2, 2)


def pays(problem: Problem) -> bool:
    """Whether this is quicker than chains, by arithmetic, on one core."""
    best = min(winograd_cost.cycles(problem, point, 1, RATES) for point in _space(problem))
    return best < winograd_cost.direct_cycles(problem, _DIRECT)


def _space(problem: Problem) -> list[Point]:
    return tile_points(problem, _REGISTER_TILES)


def points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Legal points, the quickest by arithmetic first."""
    return sorted(
        _space(problem),
        key=lambda point: winograd_cost.cycles(problem, point, machine.cores, RATES),
    )


def describe(problem: Problem, point: Point) -> Nest:
    """What the nest of ``point`` does."""
    return winograd_cost.describe(problem, point, RATES)


def packed_weights(
    weights: NDArray[np.int8], tile: int, panels: int, columns: int
) -> NDArray[np.int32]:
    """(sweeps, points, panels, I / 2, columns) of pairs of int16.

    Parameters
    ----------
    weights : (O, I, 3, 3)

    Raises
    ------
    ValueError
        where outputs could exceed what is exact.
    """
    if not fit_fours(weights):
        raise ValueError("int8 weights whose sums exceed 25 bits must come as int16")
    flat = transformed_weights(weights, integer_matrices(tile)[0].weights)
    narrow = np.ascontiguousarray(flat.reshape(-1, *weights.shape[:2]).astype(np.int16))
    return in_sweeps(narrow.view("<i4"), panels, columns)


def _accumulated(machine: Machine, lanes: int) -> Any:
    """(total, pairs, pairs) to the sum modulo 2**32."""
    product = pair_product(machine, lanes)

    def summed(total: Expr, left: Expr, right: Expr) -> Expr:
        vector = total + tirx.reinterpret(f"uint32x{lanes}", product(left, right))
        whole = fenced(tirx.reinterpret(f"int32x{lanes}", vector))
        return tirx.reinterpret(f"uint32x{lanes}", whole)

    return summed


def _divided(divisor: int, lanes: int) -> Any:
    """A vector modulo 2**32 over ``divisor``, which divides it exactly."""
    shift = (divisor & -divisor).bit_length() - 1
    inverse = pow(divisor >> shift, -1, 2**32)

    def quotient(value: Expr) -> Expr:
        even = value * broadcast(tirx.const(inverse, "uint32"), lanes) if inverse != 1 else value
        signed = tirx.reinterpret(f"int32x{lanes}", even)
        return signed >> broadcast(tirx.const(shift, "int32"), lanes)

    return quotient


def emit(request: Request) -> Written:
    """The nest, and its weights ``[sweep][point][panel][pair of channels][output channel]``."""
    conv, source = request.conv, request.source
    assert source is not None, "Winograd's weights are packed when the kernel is made"
    plan = plan_for(conv, request.point)
    shape = [plan.sweeps, plan.points, plan.panels, conv.channels // 2, plan.columns]
    weights = scratch("packed", shape, "int32")
    chosen, divisor = integer_matrices(plan.size)

    def pack(values: NDArray[Any]) -> NDArray[Any]:
        return packed_weights(values.transpose(source[1]), plan.size, plan.panels, plan.columns)

    writing = Writing(
        request, plan, chosen, weights, "uint32", worth_threads(request), "int16",
        _accumulated(request.machine, plan.block), _divided(divisor, plan.block),
    )  # fmt: skip
    return Written(write_nest(writing), (weights, pack))
