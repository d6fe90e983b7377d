"""Stages that no family knows (sorts, scans, scatters, tuple reductions): run as they came.

Their definition's own loops are kept, serial and not tiled; only the block structure that
schedules need is taken away.
"""

from __future__ import annotations

from typing import Any

from tvm import IRModule, s_tir, tirx
from tvm.ir.transform import Sequential

from motet.targets.host.loops import Stmt
from motet.targets.host.stages import Stage, block_of


def emit_as_it_came(stage: Stage) -> Stmt:
    """The statement of an opaque stage as plain loops."""
    block = block_of(stage.statement)
    regions = [*block.reads, *block.writes] if block is not None else []
    params = list({r.source: None for r in regions})
    root = s_tir.SBlock([], [], [], "root", stage.statement)
    body = s_tir.SBlockRealize([], True, root)
    func = tirx.PrimFunc(params, body).with_attr("s_tir", True).with_attr("global_symbol", "f")
    return without_blocks(func).body


def without_blocks(func: Any, *in_between: Any) -> Any:
    """``func``, a ``tirx.PrimFunc`` of blocks, as plain loops.

    in_between: passes that need blocks whose accesses are written out.
    """
    lowering = Sequential(
        [
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            *in_between,
            s_tir.transform.LowerOpaqueBlock(),
        ]
    )
    return lowering(IRModule({"f": func}))["f"]
