"""Deeper rings of weights, so that DRAM works ahead while the array is busy with other steps.

A step's own schedule needs a few slots that hide DRAM's latency, and ``choose`` gives it those.
Weights depend on nothing, though: with a slot for every tile they are loaded while the steps
before still compute. A step's rings may take ``SHARE`` of the words for tiles, so that
those of its neighbours lie beside them.
"""

from __future__ import annotations

import math
from dataclasses import replace

from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.formats import Format
from motet.targets.systolic.mappings.file import Constraints, constraints_of
from motet.targets.systolic.mappings.line_plan import SPATIAL
from motet.targets.systolic.mappings.mapping import Mapping
from motet.targets.systolic.mappings.memory import (
    granules,
    operands,
    scratchpad_words,
    slot_words,
)
from motet.targets.systolic.mappings.plan import Plan
from motet.targets.systolic.mappings.spatial_mapping import joined_of
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct

SHARE = 0.5
"""Of the words for tiles."""
VECTOR_SHARE = 0.125
"""Of the accumulators: a tile of lines has vectors of its own beside its weights."""


def prefetched(
    plan: Plan,
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    constraints: Constraints | None = None,
) -> Plan:
    """``plan`` with as many weight slots as steps have tiles, or as fit; pinned ones stay."""
    mappings = tuple(
        mapping
        if "weight_slots" in constraints_of(constraints, step.name)
        else _deepened(step, mapping, plan, description, number_format)
        for step, mapping in zip(workload.steps, plan.mappings, strict=True)
    )
    return replace(plan, mappings=mappings)


def _deepened(
    step: Step,
    mapping: Mapping,
    plan: Plan,
    description: ArrayDescription,
    number_format: Format,
) -> Mapping:
    """``mapping`` with its rings in SHARE of the words for tiles."""
    layer = step.layer
    if isinstance(layer, Convolution) and mapping.dataflow == SPATIAL:
        slots = _line_slots(step, mapping, plan, description, number_format)
    elif isinstance(layer, (Convolution, MatrixProduct)):
        slots = _tile_slots(step, mapping, plan, description, number_format)
    else:
        return mapping
    return replace(mapping, weight_slots=max(slots, mapping.weight_slots))


def _tile_slots(
    step: Step,
    mapping: Mapping,
    plan: Plan,
    description: ArrayDescription,
    number_format: Format,
) -> int:
    """Weight tiles of a product that one pod uses, or as many as fit."""
    assert isinstance(step.layer, (Convolution, MatrixProduct))
    groups, _, n, k = step.layer.product_shape
    group_pods, _, column_pods = mapping.grid
    tiles = math.ceil(groups / group_pods) * math.ceil(k / mapping.tile_depth)
    tiles *= math.ceil(n / (mapping.tile_columns * column_pods))
    pod = description.pod(mapping.first_pod)
    parts = operands(step, pod, number_format, plan.resident)
    size = (mapping.tile_rows, mapping.tile_depth, mapping.tile_columns)
    taken = scratchpad_words(parts, size, mapping.input_slots, 0, mapping.accumulator_slots)
    one = slot_words(mapping.tile_depth * mapping.tile_columns, parts.scratchpad_granule)
    return min(tiles, (int(plan.tile_words * SHARE) - int(taken)) // int(one))


def _line_slots(
    step: Step,
    mapping: Mapping,
    plan: Plan,
    description: ArrayDescription,
    number_format: Format,
) -> int:
    """Tiles of lines that one pod computes, or as many as fit."""
    pod = description.pod(mapping.first_pod)
    lines, joined = joined_of(step, pod, pod.accumulator_words, mapping.pods)
    count = lines.batch * lines.out_channels * lines.out_size[0] // joined
    tiles = math.ceil(count / (mapping.tile_rows * mapping.pods))
    granule = granules(pod, number_format)
    weights = slot_words(mapping.tile_rows * math.prod(lines.kernel), granule["scratchpad"])
    vectors = slot_words(2 * mapping.tile_rows, granule["accumulators"])
    return min(
        tiles,
        int(plan.tile_words * SHARE / 2) // int(weights),
        int(pod.accumulator_words * VECTOR_SHARE) // int(vectors),
    )
