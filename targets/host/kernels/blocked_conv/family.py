"""All ways to compute a blocked convolution, as one schedule space.

The knob ``algorithm`` names the nest: ``DIRECT`` (``direct.py``), ``DEPTHWISE``
(``depthwise.py``), or Winograd's F(2x2, 3x3) and F(4x4, 3x3) (``winograd.py``), whose value
is the size of the output tile. Every algorithm lists its own points and writes its own nest.
"""

from __future__ import annotations

from collections.abc import Sequence

from motet.targets.host.kernels.anchor import EmittedAnchor
from motet.targets.host.kernels.bfloat import stores_bits
from motet.targets.host.kernels.blocked_conv import (
    depthwise,
    direct,
    integer,
    integer_family,
    integer_winograd,
    winograd,
)
from motet.targets.host.kernels.blocked_conv.algorithms import DEPTHWISE, DIRECT
from motet.targets.host.kernels.blocked_conv.geometry import FAMILY_NAME, describe, problem_of
from motet.targets.host.kernels.blocked_conv.request import Request
from motet.targets.host.kernels.epilogue import find_epilogue
from motet.targets.host.kernels.operand import constant_source, find_operand, operand_buffers
from motet.targets.host.loops import Buffer, constant_of, index, simplify
from motet.targets.host.machine import Machine
from motet.targets.host.options import KernelOptions
from motet.targets.host.space import Family, Nest, Point, Problem, choose
from motet.targets.host.stages import Stage, StagedFunction

# Measured: where Winograd pays by arithmetic, the best direct point took 1.4 times as long and
# more, and points beyond these were never more than a few hundredths ahead of the others.
_MOST_TILED, _FEW_DIRECT, _FEW_TILED = 20, 8, 12


def points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Every legal point, the hand-written choice first."""
    if depthwise.applies(problem):
        return depthwise.points(problem, machine)
    plain = direct.points(problem, machine)
    tiled = winograd.points(problem, machine) if winograd.applies(problem) else ()
    if tiled and winograd.pays(problem):
        return (*tiled[:_MOST_TILED], *plain[:_FEW_DIRECT])
    return (*plain, *tiled[:_FEW_TILED])


def describe_nest(problem: Problem, point: Point, machine: Machine) -> Nest:
    """What the nest of ``point`` does."""
    module = {DIRECT: direct, DEPTHWISE: depthwise}.get(point["algorithm"], winograd)
    nest: Nest = module.describe(problem, point, machine)
    return nest


FAMILY = Family(FAMILY_NAME, points, describe_nest)


def emit_blocked_convolution(
    anchor: Stage, func: StagedFunction, constants: Sequence[Buffer], machine: Machine,
    options: KernelOptions,
) -> EmittedAnchor:  # fmt: skip
    """The nest of a blocked convolution with its padding, prologue and epilogue."""
    left, right = operand_buffers(anchor)
    x, weights = find_operand(left, anchor, func), find_operand(right, anchor, func)
    kernel = tuple(constant_of(d) or 0 for d in right.shape[2:])
    conv = describe(anchor, x, (kernel[0], kernel[1]))
    source = constant_source(weights, constants)
    constant = source is not None
    exact = anchor.output.dtype == "int32"
    if exact:
        problem = integer_family.problem_for(conv, x, weights, constant, machine)
        family = integer_family.family_of(problem)
    else:
        problem, family = problem_of(conv, constant, options.reassociate), FAMILY
    point = choose(family, problem, machine)
    positions = simplify(index(conv.batch) * conv.out_height * conv.out_width)
    bits = constant and stores_bits(
        options, str(anchor.output.dtype), str(right.dtype), constant_of(positions)
    )
    request = Request(
        conv, point, x, weights, source, find_epilogue(anchor, func),
        machine, bits,
    )  # fmt: skip
    plain = integer.emit if exact else direct.emit
    tiled = integer_winograd.emit if exact else winograd.emit
    emit = {DIRECT: plain, DEPTHWISE: depthwise.emit}.get(point["algorithm"], tiled)
    made = emit(request)
    stages = (x.stage, weights.stage, request.epilogue.stage)
    consumed = (anchor, *(s for s in stages if s is not None))
    repacked = {} if made.packed is None or source is None else {source[0]: made.packed}
    return EmittedAnchor(made.statement, (request.epilogue.output,), consumed, repacked)
