"""Winograd's convolution F(2x2, 3x3) and F(4x4, 3x3) in the blocked layout."""

from __future__ import annotations

from collections.abc import Sequence

from motet.targets.host.kernels.blocked_conv.request import Request, Written
from motet.targets.host.kernels.blocked_conv.winograd_matrices import matrices, pack_weights
from motet.targets.host.kernels.blocked_conv.winograd_nest import write_nest
from motet.targets.host.kernels.blocked_conv.winograd_plan import LOCAL, SHARED, plan_of
from motet.targets.host.kernels.blocked_conv.winograd_writing import Writing
from motet.targets.host.kernels.conv_plan import PARALLEL_FLOPS
from motet.targets.host.kernels.operand import Packing
from motet.targets.host.loops import constant_of, product, scratch
from motet.targets.host.machine import Machine
from motet.targets.host.space import Nest, Point, Problem


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
    """Whether the hand-written choice is this algorithm."""
    return False


def points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Legal points, the hand-written choice first."""
    return [
        Point.of(algorithm=size, order=order, tiles=tiles, rows=6, vectors=2, panels=1)
        for size in (4, 2) for order in (LOCAL, SHARED) for tiles in (24, 12, 48)
    ]  # fmt: skip


def describe(problem: Problem, point: Point, machine: Machine) -> Nest:
    """What the nest of ``point`` does."""
    raise NotImplementedError


def emit(request: Request) -> Written:
    """The nest."""
    conv, point, machine = request.conv, request.point, request.machine
    problem = Problem.of(
        "", block=conv.block, channels=conv.channels, outs=conv.outs,
        out_height=conv.out_height, out_width=conv.out_width,
    )  # fmt: skip
    plan = plan_of(problem, point)
    dtype = str(request.epilogue.anchor.output.dtype)
    shape = [plan.sweeps, plan.points, plan.panels, conv.channels, plan.columns]
    weights = scratch("packed", shape, dtype)
    work = constant_of(product([conv.batch, conv.flops]))
    worth_it = machine.cores > 1 and (work is None or work >= PARALLEL_FLOPS)
    writing = Writing(request, plan, matrices(plan.size), weights, dtype, worth_it)
    assert request.source is not None, "Winograd's weights are packed when the kernel is made"
    axes = request.source[1]

    def pack(values: object) -> object:
        return pack_weights(values.transpose(axes), plan.size, plan.panels, plan.columns)

    packing: Packing = pack
    return Written(write_nest(writing), (weights, packing))
