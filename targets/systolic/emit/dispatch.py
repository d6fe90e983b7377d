"""Which family emits a step, and which mapping a step gets."""

from __future__ import annotations

from motet.targets.systolic.emit.context import StepContext
from motet.targets.systolic.emit.elementwise import emit_elementwise
from motet.targets.systolic.emit.layer_norm import emit_layer_norm
from motet.targets.systolic.emit.pooling import emit_pooling
from motet.targets.systolic.emit.softmax import emit_softmax
from motet.targets.systolic.instructions.isa import Instructions
from motet.targets.systolic.workload.layers import Elementwise, LayerNorm, Pooling, Softmax

VECTOR_FAMILIES = {
    Elementwise: emit_elementwise,
    LayerNorm: emit_layer_norm,
    Pooling: emit_pooling,
    Softmax: emit_softmax,
}


def emit_step(context: StepContext) -> Instructions:
    """The instructions of any step, in an order in which they could run one by one."""
    return VECTOR_FAMILIES[type(context.step.layer)](context)
