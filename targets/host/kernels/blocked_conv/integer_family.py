"""All ways to compute a blocked convolution of integers, as one schedule space."""

from __future__ import annotations

from collections.abc import Sequence

from motet.targets.host.kernels.blocked_conv import depthwise, integer
from motet.targets.host.kernels.blocked_conv.algorithms import DEPTHWISE
from motet.targets.host.kernels.blocked_conv.geometry import BlockedConv, problem_of
from motet.targets.host.kernels.operand import Operand
from motet.targets.host.machine import Machine
from motet.targets.host.space import Family, Nest, Point, Problem


def problem_for(
    conv: BlockedConv, x: Operand, weights: Operand, constant_weights: bool, machine: Machine
) -> Problem:
    """What the schedule space is looked up by."""
    plain = problem_of(conv, constant_weights, False)
    if depthwise.applies(plain):
        return Problem(integer.FAMILY_NAME, plain.sizes)
    group = integer.group_of(conv, x, weights, constant_weights, machine)
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
