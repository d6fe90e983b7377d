"""All ways to compute a blocked convolution of integers, as one schedule space."""

from __future__ import annotations

from collections.abc import Sequence

from motet.targets.host.kernels.blocked_conv import (
    depthwise,
    integer,
    integer_winograd,
    winograd,
)
from motet.targets.host.kernels.blocked_conv.algorithms import DEPTHWISE, DIRECT
from motet.targets.host.kernels.blocked_conv.geometry import BlockedConv, problem_of
from motet.targets.host.kernels.blocked_conv.integer_groups import FOURS
from motet.targets.host.kernels.operand import Operand
from motet.targets.host.machine import Machine
from motet.targets.host.space import Family, Nest, Point, Problem

TILED_NAME = "blocked_conv_tiled_integer"
_FEW_DIRECT = 4


def problem_for(
    conv: BlockedConv, x: Operand, weights: Operand, constant_weights: bool, machine: Machine
) -> Problem:
    """What the schedule space is looked up by."""
    plain = problem_of(conv, constant_weights, False)
    if depthwise.applies(plain):
        return Problem(integer.FAMILY_NAME, plain.sizes)
    group = integer.group_of(conv, x, weights, constant_weights, machine)
    if group is FOURS:
        tiled = Problem(TILED_NAME, problem_of(conv, True, True).sizes)
        if tiles_pay(tiled):
            return tiled
    return integer.integer_problem(conv, constant_weights, group)


def points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Every legal point, the hand-written choice first."""
    if depthwise.applies(problem):
        return depthwise.points(problem, machine)
    return integer.points(problem, machine)


def describe_nest(problem: Problem, point: Point, machine: Machine) -> Nest:
    """What the nest of ``point`` does."""
    if point["algorithm"] == DEPTHWISE:
        return depthwise.describe(problem, point, machine)
    return integer.describe(problem, point, machine)


FAMILY = Family(integer.FAMILY_NAME, points, describe_nest)


def tiles_pay(problem: Problem) -> bool:
    """Whether fours with these sizes (channels not counted in fours) are a problem of ``TILED``."""
    return winograd.applies(problem) and integer_winograd.pays(problem)


def counted(problem: Problem) -> Problem:
    """A problem of ``TILED`` as one of ``FAMILY``: channels in fours."""
    sizes = dict(problem.sizes)
    return integer.counted(sizes, sizes["channels"] // FOURS.size, FOURS)


def uncounted(problem: Problem) -> Problem:
    """A problem of ``FAMILY`` in fours as one of ``TILED``."""
    sizes = dict(problem.sizes)
    size = sizes.pop("group")
    sizes |= {"channels": sizes["channels"] * size, "block_in": sizes["block_in"] * size}
    return Problem.of(TILED_NAME, **{**sizes, "reassociate": 1})


def tiled_points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Points of Winograd's convolution, the hand-written choice first, then direct ones."""
    tiled = integer_winograd.points(problem, machine)
    return (*tiled, *integer.points(counted(problem), machine)[:_FEW_DIRECT])


def describe_tiled(problem: Problem, point: Point, machine: Machine) -> Nest:
    """What the nest of ``point`` does."""
    if point["algorithm"] == DIRECT:
        return integer.describe(counted(problem), point, machine)
    return integer_winograd.describe(problem, point)


TILED = Family(TILED_NAME, tiled_points, describe_tiled)


def family_of(problem: Problem) -> Family:
    """The family that a problem of ``problem_for`` belongs to."""
    return TILED if problem.family == TILED_NAME else FAMILY
