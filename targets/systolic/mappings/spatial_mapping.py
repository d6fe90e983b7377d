"""Tile sizes of depthwise convolutions as lines of 1-D convolutions."""

from __future__ import annotations

import math
from collections.abc import Mapping as Dict

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture import ArrayDescription, Pod
from motet.targets.systolic.formats import Format
from motet.targets.systolic.mappings.line_plan import (
    SPATIAL,
    LinePlan,
    along,
    joined_rows,
    joined_width,
    plan_lines,
)
from motet.targets.systolic.mappings.mapping import Mapping, Place
from motet.targets.systolic.mappings.memory import granules
from motet.targets.systolic.mappings.vector_mapping import pods_of
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import Convolution

LINE_SLOTS = ((8, 16, 3), (4, 8, 2), (3, 4, 2), (2, 2, 2), (1, 1, 1))
"""Accumulator, weight and input slots, the best first."""


def choose_spatial_mapping(
    step: Step,
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    resident: Dict[int, Place],
    *,
    pods: range | None = None,
    scratchpad_words: int | None = None,
    accumulator_words: int | None = None,
) -> Mapping:
    """The mapping of a depthwise convolution under the spatial-output-stationary dataflow.

    Parameters as for ``vector_mapping.choose_vector_mapping``. Raises ``CompileError`` where the
    pods do not offer it or a line does not fit.
    """
    where = pods_of(step, description, resident, pods)
    pod, layer = description.pod(where.start), step.layer
    assert isinstance(layer, Convolution)
    if SPATIAL not in pod.dataflows or not layer.is_depthwise:
        raise CompileError(f"step {step.name!r}: {SPATIAL} is not possible here")
    if scratchpad_words is None:
        taken = sum(workload.tensors[n].elements for n in resident)
        scratchpad_words = pod.scratchpad_words(number_format.name) - taken
    sums = pod.accumulator_words if accumulator_words is None else accumulator_words
    refused: CompileError | None = None
    shorter: Mapping | None = None
    for slots in LINE_SLOTS:
        made = _mapping(step, where, pod, slots, sums)
        try:
            plan = _plan(step, layer, made, pod, number_format, resident, scratchpad_words, sums)
        except CompileError as error:
            refused = refused or error
            continue
        if plan.joined == joined_of(step, pod, sums, len(where))[1]:
            return made
        shorter = shorter or made
    if shorter is None:
        assert refused is not None
        raise refused
    return shorter


def joined_of(step: Step, pod: Pod, sums: int, pods: int) -> tuple[Convolution, int]:
    """The layer as lines are cut from it, and how many output rows make a line."""
    assert isinstance(step.layer, Convolution)
    lines = along(step.layer, pod.rows, pod.columns)[0]
    if step.epilogue.residual is not None or lines.batch * lines.in_channels < pods:
        return lines, 1
    return lines, joined_rows(lines, pod.rows, pod.columns, sums, pods)


def _mapping(step: Step, where: range, pod: Pod, slots: tuple[int, int, int], sums: int) -> Mapping:
    lines, joined = joined_of(step, pod, sums, len(where))
    count = lines.batch * lines.out_channels * lines.out_size[0] // joined
    return Mapping(
        dataflow=SPATIAL,
        first_pod=where.start,
        pods=len(where),
        split="rows",
        tile_rows=min(pod.rows, count),
        tile_depth=math.prod(lines.kernel),
        tile_columns=min(pod.columns, joined_width(lines, joined)),
        rows_outermost=True,
        input_slots=slots[2],
        weight_slots=slots[1],
        accumulator_slots=slots[0],
    )


def _plan(
    step: Step,
    layer: Convolution,
    mapping: Mapping,
    pod: Pod,
    number_format: Format,
    resident: Dict[int, Place],
    scratchpad: int,
    sums: int,
) -> LinePlan:
    """A mapping's lines; raises ``CompileError`` where they do not fit."""
    residual = step.epilogue.residual
    return plan_lines(
        step.name,
        layer,
        mapping,
        scratchpad,
        sums,
        rows=pod.rows,
        columns=pod.columns,
        resident=step.inputs[0] in resident,
        streamed=residual is not None and residual not in resident,
        may_join=residual is None,
        granule=granules(pod, number_format),
    )
