"""Integer convolution in the blocked layout: the direct nest over pairs of input channels.

Products of values of at most 16 bits (8 bits without their zero point) are summed in int32,
exactly: one instruction multiplies two pairs of int16 and adds them (``kernels/pairs``), twice
the multiply-accumulates of a float32 instruction. The nest is ``direct.py``'s, an input channel
there being a pair here; a task's input is always copied (``integer_input.py``). With AVX-512
VNNI the product and the sum are one instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.kernels.blocked_conv import direct_space
from motet.targets.host.kernels.blocked_conv.direct import (
    DirectNest,
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
from motet.targets.host.kernels.blocked_conv.integer_input import copy_pairs, pairs_buffer
from motet.targets.host.kernels.blocked_conv.request import Request, Written
from motet.targets.host.kernels.operand import Operand
from motet.targets.host.kernels.pairs import pair, pair_product, pairs_along
from motet.targets.host.loops import Expr, Stmt, allocate, constant_of, seq
from motet.targets.host.machine import Machine
from motet.targets.host.space import Nest, Point, Problem

FAMILY_NAME = "blocked_conv_integer"


def integer_problem(conv: BlockedConv, constant_weights: bool) -> Problem:
    """The problem with pairs for channels: ``channels`` and ``block_in`` count them."""
    sizes = dict(problem_of(conv, constant_weights, False).sizes)
    sizes |= {
        "channels": conv.groups * -(-conv.ic // 2), "block_in": conv.block_in // 2, "prologue": 1,
    }  # fmt: skip
    return Problem.of(FAMILY_NAME, **sizes)


def points(problem: Problem, machine: Machine) -> Sequence[Point]:
    """Legal points, the hand-written choice first."""
    return direct_space.points(problem, machine)


def describe(problem: Problem, point: Point, machine: Machine) -> Nest:
    """What the nest of ``point`` does; a pair counts as one multiply-accumulate."""
    return direct_space.describe(problem, point, machine)


def fenced(vector: Expr) -> Expr:
    """``vector``, as a value that LLVM does not look into.

    It would sum the products of several steps first, for which there are not enough registers.
    """
    lanes = int(vector.ty.dtype.lanes)
    bits = tirx.reinterpret(f"float32x{lanes}", vector)
    fence = tirx.call_llvm_pure_intrin(f"float32x{lanes}", "llvm.arithmetic.fence", bits)
    return tirx.reinterpret(f"int32x{lanes}", fence)


class _IntegerNest(DirectNest):
    """The direct nest with pairs."""

    dtype: ClassVar[str] = "int32"

    def added(self, total: Expr, left: Expr, right: Expr) -> Expr:
        """``total`` plus the products of two vectors of pairs."""
        return fenced(total + pair_product(self.request.machine, self.plan.lanes)(left, right))

    def copied(self, n: Expr, g: Expr, line: Expr) -> Stmt:
        """Fills ``x`` with the pairs of a task's input."""
        return copy_pairs(self.request, self.plan, self.x, n, g, line)


def _packing(request: Request, plan: DirectPlan) -> Callable[[NDArray[Any]], NDArray[Any]]:
    assert request.source is not None
    axes, groups = request.source[1], request.conv.groups
    in_block, width = plan.in_block, plan.blocks * plan.lanes

    def pack(weights: NDArray[Any]) -> NDArray[np.int32]:
        return pack_weights(pairs_along(weights.transpose(axes), 1), groups, in_block, width)

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
    conv = request.conv
    problem = integer_problem(conv, request.source is not None)
    plan = make_plan(dict(problem.sizes), request.point)
    several = worth_threads(request)
    packed = packed_buffer(conv, plan, "int32")
    sums = sums_of(request, plan, "int32")
    nest = _IntegerNest(request, plan, pairs_buffer(plan), packed, sums, table_of(plan))
    main = nest.write(several)
    if request.source is not None:
        return Written(main, (packed, _packing(request, plan)))
    weights = _Pairs(request.weights.buffer, request.weights.stage)
    pack = pack_at_run_time(packed, weights, conv, plan, several)
    return Written(seq(allocate(packed), pack, main), None)
