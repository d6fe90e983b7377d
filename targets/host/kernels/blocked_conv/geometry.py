"""The extents of a blocked convolution, and the problem they are to the schedule space."""

from __future__ import annotations

from dataclasses import dataclass

from motet.targets.host.kernels.operand import Operand
from motet.targets.host.loops import Expr, constant_of
from motet.targets.host.space import Problem
from motet.targets.host.stages import Stage

FAMILY_NAME = "blocked_conv"


@dataclass(frozen=True, eq=False)
class BlockedConv:
    """A convolution (O, I / groups, *kernel) of input planes ``height x width``.

    batch: images, perhaps symbolic. channels, outs: in all; ic, oc: of one group.
    block: lanes of a vector, and channels of a block; block_in, block_out: 0 where the input
    or the output is in the plain layout, else ``block``. Pairs are (vertical, horizontal).
    prologue: whether input elements are computed, not only loaded.
    """

    batch: Expr
    channels: int
    outs: int
    groups: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    top: int
    left: int
    block: int
    block_in: int
    block_out: int
    prologue: bool

    @property
    def ic(self) -> int:
        """Input channels of a group."""
        return self.channels // self.groups

    @property
    def oc(self) -> int:
        """Output channels of a group."""
        return self.outs // self.groups

    @property
    def depthwise(self) -> bool:
        """Whether every channel is a group of its own with one output."""
        return self.groups > 1 and self.ic == 1 and self.oc == 1

    @property
    def flops(self) -> int:
        """Floating-point operations of one image."""
        taps = self.kernel[0] * self.kernel[1]
        return 2 * self.outs * self.ic * taps * self.out_height * self.out_width


def describe(anchor: Stage, x: Operand, kernel: tuple[int, int]) -> BlockedConv:
    """The extents of ``anchor``, whose input is ``x``; planes are never symbolic."""
    attrs = anchor.attrs
    block_in, block_out = int(attrs["block_in"]), int(attrs["block_out"])
    height, width = (constant_of(d) or 0 for d in x.buffer.shape[2:4])
    out_height, out_width = (constant_of(a.extent) or 0 for a in anchor.spatial[2:4])
    top, left, *_ = (int(p) for p in attrs["padding"])
    strides, dilation = (tuple(int(v) for v in attrs[key]) for key in ("strides", "dilation"))
    return BlockedConv(
        anchor.spatial[0].extent, int(attrs["channels"]), int(attrs["outs"]),
        int(attrs["groups"]), height, width, out_height, out_width, kernel,
        (strides[0], strides[1]), (dilation[0], dilation[1]), top, left,
        max(block_in, block_out), block_in, block_out, x.stage is not None,
    )  # fmt: skip


def problem_of(conv: BlockedConv, constant_weights: bool, reassociate: bool) -> Problem:
    """What the schedule space is looked up by.

    constant_weights: whether they can be packed when the kernel is made; reassociate:
    whether another formula (Winograd) is allowed.
    """
    batch = constant_of(conv.batch)
    return Problem.of(
        FAMILY_NAME,
        batch=-1 if batch is None else batch,
        channels=conv.channels, outs=conv.outs, groups=conv.groups,
        height=conv.height, width=conv.width,
        out_height=conv.out_height, out_width=conv.out_width,
        kernel_h=conv.kernel[0], kernel_w=conv.kernel[1],
        stride_h=conv.strides[0], stride_w=conv.strides[1],
        dilation_h=conv.dilation[0], dilation_w=conv.dilation[1],
        top=conv.top, left=conv.left,
        block=conv.block, block_in=conv.block_in, block_out=conv.block_out,
        prologue=int(conv.prologue), constant=int(constant_weights),
        reassociate=int(reassociate),
    )  # fmt: skip
