"""Which tensors may stay in scratchpads between the steps that write and read them."""

from __future__ import annotations

from motet.targets.systolic.instructions.program import Element, Role
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import Elementwise
from motet.targets.systolic.workload.moves import Concat


def may_be_resident(workload: Workload, tensor: int) -> bool:
    """Whether the steps of ``workload`` can write and read ``tensor`` in scratchpads.

    It is made and used inside the program, in words, and every reader takes it as its first
    input, as a residual, as the second of elementwise arithmetic, or to concatenate it. Weight
    operands and the vectors of products come from DRAM: a scratchpad cannot gather them into
    dense tiles.
    """
    held = workload.tensors[tensor]
    if held.role is not Role.INTERNAL or held.element is not Element.WORD:
        return False
    return all(_reads_resident(step, tensor) for step in workload.steps if tensor in step.reads)


def _reads_resident(step: Step, tensor: int) -> bool:
    if tensor in step.epilogue.tensors and tensor != step.epilogue.residual:
        return False
    if tensor not in step.inputs:
        return True
    if isinstance(step.layer, (Concat, Elementwise)):
        return True
    return tensor not in step.inputs[1:]
