"""From a function that MetaSchedule scheduled to plain loops, as ``object_code`` compiles them."""

from __future__ import annotations

from typing import Any

from tvm import IRModule, s_tir

from motet.targets.host.kernels.generic import without_blocks


def as_loops(scheduled: IRModule) -> Any:
    """The only function of ``scheduled`` without blocks, a ``tirx.PrimFunc``.

    A schedule computes stages where others need them: their buffers shrink to what is alive
    there.
    """
    whole = s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(scheduled)
    (function,) = whole.functions.values()
    compact = s_tir.transform.CompactBufferAllocation()
    return without_blocks(function, compact, s_tir.transform.LowerMatchBuffer())
