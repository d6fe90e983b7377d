"""Integer convolution in the blocked layout: the direct nest over groups of input channels.

Products of 8-bit values, without their zero points or with, are summed in int32, exactly: one
instruction multiplies and adds a group of neighbouring input channels (``integer_groups``).
The nest is ``direct.py``'s, an input channel there being a group here. What has to be centred
or padded is copied by each task (``integer_input``); bytes are read in place where they can be.
Bytes by constant weights that fit fours, without VNNI, are summed in chains (``chains``), or
in tiles by Winograd's formula (``integer_winograd``; ``integer_family`` says where).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.kernels.blocked_conv import chains, direct_space
from motet.targets.host.kernels.blocked_conv.direct import (
    DirectNest,
    flat_input,
    sums_of,
    table_of,
    worth_threads,
)
from motet.targets.host.kernels.blocked_conv.direct_plan import DirectPlan, make_plan
from motet.targets.host.kernels.blocked_conv.direct_weights import (
    pack_at_run_time,
    pack_weights,
    packed_buffer,
)
from motet.targets.host.kernels.blocked_conv.geometry import BlockedConv, problem_of
from motet.targets.host.kernels.blocked_conv.integer_groups import (
    DOTS,
    FOURS,
    PAIRS,
    Group,
    multiplies_fours,
)
from motet.targets.host.kernels.blocked_conv.integer_input import copy_groups, groups_buffer
from motet.targets.host.kernels.blocked_conv.request import Request, Written
from motet.targets.host.kernels.fours import adds_dots
from motet.targets.host.kernels.operand import Operand
from motet.targets.host.kernels.pairs import pair
from motet.targets.host.loops import Expr, Stmt, allocate, constant_of, load, ramp, seq
from motet.targets.host.machine import Machine
from motet.targets.host.space import Nest, Point, Problem

FAMILY_NAME = "blocked_conv_integer"


def group_of(
    conv: BlockedConv, x: Operand, weights: Operand, constant: bool, machine: Machine
) -> Group:
    """Fours of bytes as they are, by constant int8 weights; pairs of anything else."""
    types = str(x.buffer.dtype), str(weights.buffer.dtype)
    if not constant or x.stage is not None or types != ("uint8", "int8"):
        return PAIRS
    if adds_dots(machine, conv.block):
        return DOTS
    return FOURS if conv.block_in and multiplies_fours(machine, conv.block) else PAIRS


def integer_problem(conv: BlockedConv, constant_weights: bool, group: Group) -> Problem:
    """The problem with groups for channels: ``channels`` and ``block_in`` count them."""
    sizes = dict(problem_of(conv, constant_weights, False).sizes)
    return counted(sizes, conv.groups * group.channels(conv.ic), group)


def counted(sizes: Mapping[str, int], channels: int, group: Group) -> Problem:
    """The problem of these sizes with ``channels`` groups."""
    changed = {
        "channels": channels, "group": group.size, "block_in": sizes["block_in"] // group.size,
        "prologue": int(group is PAIRS or not sizes["block_in"]), "reassociate": 0,
    }  # fmt: skip
    return Problem.of(FAMILY_NAME, **{**sizes, **changed})


def points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Legal points, the hand-written choice first."""
    if problem["group"] == FOURS.size and not adds_dots(machine, problem["block"]):
        return chains.points(problem, machine)
    return direct_space.points(problem, machine)


def describe(problem: Problem, point: Point, machine: Machine) -> Nest:
    """What the nest of ``point`` does; a group counts as one multiply-accumulate."""
    return direct_space.describe(problem, point, machine)


@dataclass(frozen=True, eq=False)
class _IntegerNest(DirectNest):
    """The direct nest with groups of channels; ``x`` holds bytes where it is read in place."""

    group: Group
    dtype: ClassVar[str] = "int32"

    def input_at(self, element: Expr) -> Expr:
        """One group of input channels."""
        if not self.plan.in_place:
            return load(self.x, element)
        size = self.group.size
        return tirx.reinterpret("int32", load(self.x, ramp(element * size, size)))

    def added(self, total: Expr, x: Expr, weights: Expr) -> Expr:
        """``total`` plus the products of two vectors of groups."""
        return self.group.summed(self.request.machine, self.plan.lanes)(total, x, weights)

    def copied(self, n: Expr, g: Expr, line: Expr) -> Stmt:
        """Fills ``x`` with the groups of a task's input."""
        return copy_groups(self.request, self.plan, self.group, self.x, n, g, line)


def _packing(
    request: Request, plan: DirectPlan, group: Group
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    assert request.source is not None
    axes, groups = request.source[1], request.conv.groups
    in_block, width = plan.in_block, plan.blocks * plan.lanes

    def pack(weights: NDArray[Any]) -> NDArray[np.int32]:
        return pack_weights(group.packed(weights.transpose(axes)), groups, in_block, width)

    return pack


class _Pairs(Operand):
    """Weights (O, I / groups, KH, KW) as pairs of input channels."""

    def at(self, indices: Sequence[Expr]) -> Expr:
        """Pair ``indices[1]``."""
        out, number, *taps = indices
        channels = constant_of(self.buffer.shape[1]) or 0
        low, high = (
            super(_Pairs, self).at([out, tirx.min(number * 2 + i, channels - 1), *taps])
            for i in (0, 1)
        )
        if channels % 2:
            high = tirx.Select(number * 2 + 1 < channels, high, tirx.const(0, high.ty.dtype))
        return pair(low.astype("int16"), high.astype("int16"))


def emit(request: Request) -> Written:
    """The nest of an integer convolution."""
    conv, constant = request.conv, request.source is not None
    group = group_of(conv, request.x, request.weights, constant, request.machine)
    if group is FOURS:
        return chains.emit(request, integer_problem(conv, constant, group))
    plan = make_plan(dict(integer_problem(conv, constant, group).sizes), request.point)
    several = worth_threads(request)
    packed = packed_buffer(conv, plan, "int32")
    sums = sums_of(request, plan, "int32")
    x, declared = flat_input(request, plan) if plan.in_place else (groups_buffer(plan), [])
    nest = _IntegerNest(request, plan, x, packed, sums, table_of(plan), group)
    main = seq(*declared, nest.write(several))
    if constant:
        return Written(main, (packed, _packing(request, plan, group)))
    weights = _Pairs(request.weights.buffer, request.weights.stage)
    pack = pack_at_run_time(packed, weights, conv, plan, several)
    return Written(seq(allocate(packed), pack, main), None)
