"""Winograd's convolutions F(2x2, 3x3) and F(4x4, 3x3) in the blocked layout.

They compute a tile of 2 x 2 or 4 x 4 outputs with 16 or 36 products per pair of channels in
place of 36 or 144 (``winograd_matrices`` has the formula and its sources), for 16/9 or 36/9 of
the weights' memory. The products of all tiles are a matrix product for each of the 16 or 36
points (``winograd_nest``).

Error: on normal input and weights of 16 to 512 channels the largest error, relative to the
largest output, stays below 2e-6 with tiles of 2 and below 5e-6 with tiles of 4, against 3e-6
of a direct sum in float32; 1e-5 is the bound that tests hold. A specification that forbids
reassociation forbids both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from motet.targets.host.kernels.blocked_conv import winograd_cost
from motet.targets.host.kernels.blocked_conv.request import Request, Written, worth_threads
from motet.targets.host.kernels.blocked_conv.winograd_matrices import matrices, pack_weights
from motet.targets.host.kernels.blocked_conv.winograd_nest import write_nest
from motet.targets.host.kernels.blocked_conv.winograd_plan import (
    LOCAL,
    SHARED,
    Plan,
    plan_for,
    plan_of,
)  # fmt: skip
from motet.targets.host.kernels.blocked_conv.winograd_writing import Writing
from motet.targets.host.loops import scratch
from motet.targets.host.machine import Machine
from motet.targets.host.space import Nest, Point, Problem

_SIZES = (4, 2)
_TILES = (12, 24, 48)
_REGISTER_TILES = (6, 2, 1), (6, 2, 2), (4, 3, 1)
_WIDE_REGISTER_TILES = (12, 2, 1), (8, 3, 1), (6, 4, 1)
"""(rows, vectors, panels) that fit 16 registers, and 32."""


def applies(problem: Problem) -> bool:
    """Whether the algorithm can compute the problem."""
    ones = ("stride_h", "stride_w", "dilation_h", "dilation_w", "groups")
    return bool(
        (problem["kernel_h"], problem["kernel_w"]) == (3, 3)
        and all(problem[name] == 1 for name in ones)
        and problem["constant"] and problem["reassociate"] and problem["block_in"]
        and min(problem["out_height"], problem["out_width"]) > 0
    )  # fmt: skip


def pays(problem: Problem) -> bool:
    """Whether the hand-written choice is this algorithm: by arithmetic, on one core."""
    best = min(winograd_cost.cycles(problem, point, 1) for point in _space(problem))
    return best < winograd_cost.direct_cycles(problem)


def points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Legal points, the quickest by arithmetic first."""
    return sorted(
        _space(problem), key=lambda point: winograd_cost.cycles(problem, point, machine.cores)
    )


def _space(problem: Problem) -> list[Point]:
    return tile_points(problem, _WIDE_REGISTER_TILES if problem["block"] == 16 else _REGISTER_TILES)


def tile_points(problem: Problem, shapes: Sequence[tuple[int, int, int]]) -> list[Point]:
    """A point for each different plan, with register tiles of ``shapes``."""
    made: dict[Plan, Point] = {}
    for size in _SIZES:
        for order in (LOCAL, SHARED):
            for tiles in _TILES:
                for rows, vectors, panels in shapes:
                    point = Point.of(
                        algorithm=size, order=order, tiles=tiles, rows=rows, vectors=vectors,
                        panels=panels,
                    )  # fmt: skip
                    made.setdefault(plan_of(problem, point), point)
    return list(made.values())


def describe(problem: Problem, point: Point, machine: Machine) -> Nest:
    """What the nest of ``point`` does."""
    return winograd_cost.describe(problem, point)


def emit(request: Request) -> Written:
    """The nest, and its weights ``[sweep][point][panel][input channel][output channel]``."""
    conv, source = request.conv, request.source
    assert source is not None, "Winograd's weights are packed when the kernel is made"
    plan = plan_for(conv, request.point)
    dtype = str(request.epilogue.anchor.output.dtype)
    shape = [plan.sweeps, plan.points, plan.panels, conv.channels, plan.columns]
    weights = scratch("packed", shape, dtype)
    several = worth_threads(request)

    def pack(values: NDArray[Any]) -> NDArray[Any]:
        return pack_weights(values.transpose(source[1]), plan.size, plan.panels, plan.columns)

    writing = Writing(request, plan, matrices(plan.size), weights, dtype, several)
    return Written(write_nest(writing), (weights, pack))
