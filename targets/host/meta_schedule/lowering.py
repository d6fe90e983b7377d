"""From a function that MetaSchedule scheduled to plain loops, as ``object_code`` compiles them."""

from __future__ import annotations

from typing import Any

from tvm import IRModule, s_tir, tirx
from tvm.ir.transform import Sequential

from motet.targets.host.machine import Machine
from motet.targets.host.target import tvm_target


def as_loops(scheduled: IRModule, machine: Machine) -> Any:
    """The only function of ``scheduled`` without blocks, a ``tirx.PrimFunc``.

    What TVM's own pipeline does to blocks, in its order, for a CPU.
    """
    passes = [
        s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True),
        tirx.transform.BindTarget(tvm_target(machine)),
        s_tir.transform.CanonicalizeLoop(),
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.CompactBufferAllocation(),
        s_tir.transform.LowerMatchBuffer(),
        s_tir.transform.StmtSimplify(),
        s_tir.transform.AnnotateIrregularLoop(),
        s_tir.transform.LowerOpaqueBlock(),
        tirx.transform.FlattenBuffer(),
        tirx.transform.NarrowDataType(32),
        s_tir.transform.LoopPartition(),
        tirx.transform.VectorizeLoop(True),
        tirx.transform.StorageRewrite(),
        s_tir.transform.HoistIfThenElse(),
        tirx.transform.UnrollLoop(),
        s_tir.transform.RenormalizeSplitPattern(),
        tirx.transform.StmtSimplify(),
        tirx.transform.RemoveNoOp(),
        s_tir.transform.RewriteUnsafeSelect(),
        tirx.transform.CommonSubexprElim(),
    ]
    lowered = Sequential(passes)(scheduled)
    (function,) = lowered.functions.values()
    return function
