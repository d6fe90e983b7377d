"""What vector steps and lines of depthwise convolutions cost, in closed form.

Cycles are the slowest of what overlaps: DRAM bytes at peak bandwidth, vector operations over the
lanes of all pods, and for lines the folds of the array; before that, DRAM's latency.
"""

from __future__ import annotations

import math
from collections.abc import Container

from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.formats import ACCUMULATOR_BYTES, Format
from motet.targets.systolic.instructions.isa import Activation
from motet.targets.systolic.instructions.program import Element
from motet.targets.systolic.mappings.line_plan import SPATIAL, line_cycles
from motet.targets.systolic.mappings.mapping import Mapping
from motet.targets.systolic.mappings.spatial_mapping import joined_of
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import Convolution, Elementwise, Pooling, Softmax
from motet.targets.systolic.workload.moves import Move

SOFTMAX_PASSES = 4
LAYER_NORM_PASSES = 6


def vector_cycles(
    step: Step,
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    resident: Container[int],
    mapping: Mapping,
) -> float:
    """Estimated cycles of a vector step, or of a convolution under the spatial dataflow."""
    pod = description.pod(mapping.first_pod)
    moved = moved_bytes(step, workload, number_format, resident)
    operations = _passes(step, resident) * math.prod(step.layer.output_shape)
    if isinstance(step.layer, Pooling):
        operations *= math.prod(step.layer.kernel)
    busy = operations / (pod.vector.lanes * mapping.pods)
    if mapping.dataflow == SPATIAL and isinstance(step.layer, Convolution):
        lines, joined = joined_of(step, pod, pod.accumulator_words, mapping.pods)
        busy = max(busy, line_cycles(lines, pod.rows, pod.columns, joined, mapping.pods))
    latency = description.dram.latency_cycles + pod.vector.latency_cycles
    return max(moved / description.dram_bytes_per_cycle, busy) + latency


def moved_bytes(
    step: Step, workload: Workload, number_format: Format, resident: Container[int]
) -> int:
    """Bytes that a step of any kind loads from DRAM and stores there, each value once."""
    return sum(
        _bytes(workload, number, number_format)
        for number in (*step.reads, step.output)
        if number not in resident
    )


def _bytes(workload: Workload, number: int, number_format: Format) -> int:
    tensor = workload.tensors[number]
    if tensor.element is Element.WORD:
        return number_format.bytes(tensor.elements)
    return tensor.elements * ACCUMULATOR_BYTES


def _passes(step: Step, resident: Container[int]) -> int:
    """VECTORs over a whole tile."""
    epilogue, layer = step.epilogue, step.layer
    made = (epilogue.residual is not None) + (epilogue.requantise is not None)
    activated = epilogue.activation is not Activation.NONE
    if isinstance(layer, Convolution):
        return max(made, int(activated))
    made += epilogue.bias is not None
    if isinstance(layer, Elementwise):
        return max(made + (layer.kind != "identity"), int(activated)) + (step.inputs[0] in resident)
    if isinstance(layer, Pooling):
        return 1
    if isinstance(layer, Move):
        return max(made, int(activated)) + any(number in resident for number in step.inputs)
    return made + (SOFTMAX_PASSES if isinstance(layer, Softmax) else LAYER_NORM_PASSES)
