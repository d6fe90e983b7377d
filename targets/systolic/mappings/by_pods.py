"""Cycles by how many of an array's pods may be used, for arrays whose pods are of one kind.

What ``plan_workload`` estimates for each number of pods, with one search for all of them: tensors
that stay on chip have the same places whatever the number, as all steps use the same pods.
"""

from __future__ import annotations

from collections.abc import Mapping as Dict
from collections.abc import Sequence
from dataclasses import replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.formats import Format
from motet.targets.systolic.mappings.assignment import Timetable
from motet.targets.systolic.mappings.line_plan import SPATIAL
from motet.targets.systolic.mappings.mapping import Mapping, Place
from motet.targets.systolic.mappings.plan import layouts
from motet.targets.systolic.mappings.products_by_pods import product_cycles
from motet.targets.systolic.mappings.spatial_mapping import choose_spatial_mapping
from motet.targets.systolic.mappings.vector_cost import vector_cycles
from motet.targets.systolic.mappings.vector_mapping import vector_mappings
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import (
    Convolution,
    MatrixProduct,
    TransposedConvolution,
)
from motet.targets.systolic.workload.transposed import largest_phase

Cycles = NDArray[np.float64]
"""[counts], inf where nothing fits; they never rise."""


def workload_cycles(
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    counts: Sequence[int],
) -> Cycles:
    """Estimated cycles of ``workload`` with each of ``counts`` pods, which rise."""
    steps = len(workload.steps)
    alike = Timetable(tuple(range(steps)), (range(description.pod_count),) * steps)
    best = np.full(len(counts), inf)
    for resident, words in layouts(workload, description, number_format, alike):
        asked = workload, description, number_format, resident, words, counts
        total = np.sum([step_cycles(step, *asked) for step in workload.steps], axis=0)
        best = np.minimum(best, total)
    return best


def step_cycles(
    step: Step,
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    resident: Dict[int, Place],
    scratchpad_words: int,
    counts: Sequence[int],
) -> Cycles:
    """Estimated cycles of a step with each of ``counts`` pods, which rise.

    resident: tensors on chip, in all pods. scratchpad_words: what tiles may take.
    """
    given = description, number_format, resident, scratchpad_words, counts
    if isinstance(step.layer, (Convolution, MatrixProduct, TransposedConvolution)):
        found = _product(step, *given)
        return np.minimum(found, _spatial(step, workload, *given))
    try:
        made = vector_mappings(step, description, number_format, resident, counts, scratchpad_words)
    except CompileError:
        return np.full(len(counts), inf)
    asked = step, workload, description, number_format, resident
    return _falling([vector_cycles(*asked, mapping) for mapping in made])


def _falling(cycles: Sequence[float]) -> Cycles:
    return np.minimum.accumulate(np.asarray(cycles, np.float64))


def _product(
    step: Step,
    description: ArrayDescription,
    number_format: Format,
    resident: Dict[int, Place],
    words: int,
    counts: Sequence[int],
) -> Cycles:
    scale = 1.0
    if isinstance(step.layer, TransposedConvolution):
        phase = largest_phase(step.layer)
        scale = max(1.0, step.layer.macs / max(1, phase.macs))
        step = replace(step, layer=phase)
    found = product_cycles(
        step, description, number_format, counts, resident=resident, scratchpad_words=words
    )
    return scale * np.array(found)


def _spatial(
    step: Step,
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    resident: Dict[int, Place],
    words: int,
    counts: Sequence[int],
) -> Cycles:
    """Of lines of a depthwise convolution; inf for other steps and arrays."""
    layer = step.layer
    is_possible = isinstance(layer, Convolution) and layer.is_depthwise
    if not is_possible or SPATIAL not in description.pods[0].dataflows:
        return np.full(len(counts), inf)
    asked = step, workload, description, number_format, resident

    def cycles(count: int) -> float:
        try:
            made: Mapping = choose_spatial_mapping(
                *asked, pods=range(count), scratchpad_words=words
            )
        except CompileError:
            return inf
        return vector_cycles(*asked, made)

    return _falling([cycles(count) for count in counts])
