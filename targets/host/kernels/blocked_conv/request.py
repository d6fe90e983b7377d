"""What an algorithm of the blocked convolution gets, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from motet.targets.host.kernels.blocked_conv.geometry import BlockedConv
from motet.targets.host.kernels.conv_plan import PARALLEL_FLOPS
from motet.targets.host.kernels.epilogue import Epilogue
from motet.targets.host.kernels.operand import Operand, Packing
from motet.targets.host.loops import Buffer, Expr, Stmt, constant_of, index
from motet.targets.host.machine import Machine
from motet.targets.host.space import Point


@dataclass(frozen=True, eq=False)
class Request:
    """A convolution to write.

    x: the input, [N][C / block][H][W][block] or [N][C][H][W]; where it is a stage, its
    elements are computed as they are read (``x.at``). weights: (O, I / groups, KH, KW).
    source: where the weights are known when the kernel is made, the parameter that holds them
    and the transposition that gives (O, I / groups, KH, KW); then they must be packed.
    epilogue: ``write(value, at)`` with ``at`` as ``position`` gives it. bits: whether known
    weights may be stored in bfloat16 (``kernels/bfloat``), whose values they have.
    """

    conv: BlockedConv
    point: Point
    x: Operand
    weights: Operand
    source: tuple[Buffer, tuple[int, ...]] | None
    epilogue: Epilogue
    machine: Machine
    bits: bool = False

    def input_at(self, n: Expr, channel: Expr, h: Expr, w: Expr) -> Expr:
        """The input element, which must exist; ``channel`` counts over all groups."""
        block = self.conv.block_in
        if not block:
            return self.x.at([n, channel, h, w])
        lane = tirx.floormod(channel, index(block))
        return self.x.at([n, tirx.floordiv(channel, index(block)), h, w, lane])

    def position(self, n: Expr, block: Expr, h: Expr, w: Expr, lane: Expr) -> Sequence[Expr]:
        """Where the output has channel ``block * conv.block + lane``."""
        if self.conv.block_out:
            return [n, block, h, w, lane]
        return [n, block * self.conv.block + lane, h, w]


@dataclass(frozen=True, eq=False)
class Written:
    """A nest, and its packed weights where ``Request.source`` is set: the buffer as the
    kernel reads it, and how to fill it from the parameter's values.
    """

    statement: Stmt
    packed: tuple[Buffer, Packing] | None


def worth_threads(request: Request, least: int = PARALLEL_FLOPS) -> bool:
    """Whether there is work for more than one core: ``least`` operations, or nobody knows."""
    batch = constant_of(request.conv.batch)
    work = None if batch is None else batch * request.conv.flops
    return request.machine.cores > 1 and (work is None or work >= least)
