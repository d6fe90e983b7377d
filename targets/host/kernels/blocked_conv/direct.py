"""Direct convolution in the blocked layout."""

from __future__ import annotations

from collections.abc import Sequence

from motet.targets.host.kernels.blocked_conv.algorithms import DIRECT
from motet.targets.host.kernels.blocked_conv.request import Request, Written
from motet.targets.host.machine import Machine
from motet.targets.host.space import Nest, Point, Problem


def points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Legal points, the hand-written choice first."""
    return (Point.of(algorithm=DIRECT),)


def describe(problem: Problem, point: Point, machine: Machine) -> Nest:
    """What the nest of ``point`` does."""
    raise NotImplementedError


def emit(request: Request) -> Written:
    """The nest."""
    raise NotImplementedError
