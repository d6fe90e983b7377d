"""Weights of a direct convolution in the order in which its innermost loops read them:
``[group][panel][input block][kh][kw][input channel][output channels of the panel]``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.kernels.blocked_conv.direct_plan import DirectPlan
from motet.targets.host.kernels.blocked_conv.geometry import BlockedConv
from motet.targets.host.kernels.operand import Operand
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    index,
    loop,
    parallel,
    scratch,
    store,
)


def packed_buffer(conv: BlockedConv, plan: DirectPlan, dtype: str = "float32") -> Buffer:
    """The buffer of packed weights."""
    shape = [conv.groups, plan.panels, plan.in_blocks, *conv.kernel, plan.in_block]
    return scratch("packed", [*shape, plan.blocks * plan.lanes], dtype)


def pack_weights(weights: NDArray[Any], groups: int, in_block: int, width: int) -> NDArray[Any]:
    """Packs weights (O, I / groups, KH, KW), ``width`` output channels to a panel.

    Outputs beyond the last are zero.
    """
    outs, ic, kh, kw = weights.shape
    oc = outs // groups
    panels = -(-oc // width)
    padded = np.zeros((groups, panels * width, ic, kh, kw), weights.dtype)
    padded[:, :oc] = weights.reshape(groups, oc, ic, kh, kw)
    split = padded.reshape(groups, panels, width, ic // in_block, in_block, kh, kw)
    return np.ascontiguousarray(split.transpose(0, 1, 3, 5, 6, 4, 2))


def pack_at_run_time(
    packed: Buffer, weights: Operand, conv: BlockedConv, plan: DirectPlan, several: bool
) -> Stmt:
    """Fills ``packed`` from weights that are known only at run time."""
    width = plan.blocks * plan.lanes

    def vector(g: Expr, panel: Expr, icb: Expr, kh: Expr, kw: Expr, ic: Expr) -> Stmt:
        def element(o: Expr) -> Stmt:
            out, channel = panel * width + o, icb * plan.in_block + ic
            last = tirx.min(out, index(conv.oc - 1))
            value = weights.at([g * conv.oc + last, channel, kh, kw])
            if conv.oc % width:
                value = tirx.Select(out < conv.oc, value, tirx.const(0, packed.dtype))
            return store(packed, value, g, panel, icb, kh, kw, ic, o)

        return loop("o", width, element)

    def task(g: Expr, panel: Expr, icb: Expr, kh: Expr) -> Stmt:
        return loop(
            "kw", conv.kernel[1],
            lambda kw: loop("ic", plan.in_block, lambda ic: vector(g, panel, icb, kh, kw, ic)),
        )  # fmt: skip

    extents = [conv.groups, plan.panels, plan.in_blocks, conv.kernel[0]]
    return parallel(["g", "panel", "icb", "kh"], extents, task, several)
