"""A plan to a program: the steps' instructions one after another, then semaphores.

The tiles of a step lie in memory after those of the last step before it that shares a pod with
it, where they fit, so that its first loads need not wait until that step is done.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from operator import itemgetter

import numpy as np

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.emit.context import Reach, StepContext, ViewTable
from motet.targets.systolic.emit.dispatch import emit_step
from motet.targets.systolic.emit.products import product_rings
from motet.targets.systolic.formats import Format
from motet.targets.systolic.instructions.addressing import View
from motet.targets.systolic.instructions.isa import Instructions, empty_instructions
from motet.targets.systolic.instructions.program import StepInfo, SystolicProgram, Tensor
from motet.targets.systolic.instructions.synchronise import synchronise
from motet.targets.systolic.mappings.line_plan import SPATIAL
from motet.targets.systolic.mappings.mapping import Mapping
from motet.targets.systolic.mappings.plan import Plan
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import Product
from motet.targets.systolic.workload.parts import whole_view

MAX_INSTRUCTIONS = 50_000_000


def emit_plan(
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    plan: Plan,
    numbers: Sequence[int] | None = None,
) -> SystolicProgram:
    """The program that follows ``plan``.

    ``numbers``: what the program counts the steps by, which it lists in that order; default as
    ``workload`` has them.
    """
    numbers = range(len(workload.steps)) if numbers is None else numbers
    views = ViewTable()
    parts: list[Instructions] = []
    total = 0
    reached: list[Reach] = []
    tried: Tried = {}
    for place, (step, mapping) in enumerate(zip(workload.steps, plan.mappings, strict=True)):
        context = StepContext(
            number=numbers[place],
            step=step,
            workload=workload,
            description=description,
            format=number_format,
            mapping=mapping,
            views=views,
            resident=plan.resident,
            scratchpad=range(plan.tile_words),
            accumulators=range(description.pod(mapping.first_pod).accumulator_words),
        )
        context = _after(context, _last_reach(plan.mappings[:place], reached, mapping), tried)
        parts.append(emit_step(context))
        reached.append(context.reach)
        total += len(parts[-1])
        if total > MAX_INSTRUCTIONS:
            raise CompileError(
                f"step {step.name!r}: the program has more than {MAX_INSTRUCTIONS:,} instructions: "
                "use a larger array, or run the step on the host"
            )
    sequence = np.concatenate(parts) if parts else empty_instructions(0)
    return synchronise(
        sequence,
        number_format.name,
        _tensors(workload, plan, views),
        _views(workload, views),
        _infos(workload, plan, numbers),
        description.pod_count,
    )


def _last_reach(mappings: Sequence[Mapping], reached: Sequence[Reach], mapping: Mapping) -> Reach:
    """What the last of the earlier steps that uses a pod of ``mapping`` took."""
    own = mapping.pod_numbers
    for earlier, reach in zip(reversed(mappings), reversed(reached), strict=True):
        pods = earlier.pod_numbers
        if pods.start < own.stop and own.start < pods.stop:
            return reach
    return Reach()


Tried = dict[Hashable, Reach]
"""What steps take of the memories, by what that depends on: equal ones are tried once."""


def _after(context: StepContext, before: Reach, tried: Tried) -> StepContext:
    """The step with its tiles from where those ``before`` end, in each memory, if they fit."""
    key = _takes_alike(context)
    if key not in tried:
        tried[key] = _taken(context)
    scratchpad = _moved(context.scratchpad, tried[key].scratchpad, before.scratchpad)
    sums = _moved(context.accumulators, tried[key].accumulators, before.accumulators)
    reach = Reach(scratchpad.start, sums.start)
    return replace(context, reach=reach, scratchpad=scratchpad, accumulators=sums)


def _takes_alike(context: StepContext) -> Hashable:
    """Equal for steps of a workload whose tiles take the same words."""
    step, mapping = context.step, context.mapping
    epilogue = step.epilogue
    operands = (epilogue.bias, epilogue.residual, epilogue.requantise, *step.inputs, step.output)
    held = [None if one is None else one in context.resident for one in operands]
    shape = (epilogue.activation, epilogue.clamp, *held)
    return step.layer, shape, mapping, context.scratchpad, context.accumulators


def _taken(context: StepContext) -> Reach:
    """What the step's tiles take, by making them: products say so without their instructions."""
    trial = replace(context, views=ViewTable(), reach=Reach())
    if isinstance(context.step.layer, Product) and context.mapping.dataflow != SPATIAL:
        product_rings(trial)
    else:
        emit_step(trial)
    return trial.reach


def _moved(words: range, used: int, start: int) -> range:
    """``words``, or as many from ``start`` on where the ``used`` ones of them then fit."""
    return range(start, start + len(words)) if start + used <= words.stop else words


def _tensors(workload: Workload, plan: Plan, views: ViewTable) -> list[Tensor]:
    placed = [
        replace(tensor, resident=plan.resident[i].address) if i in plan.resident else tensor
        for i, tensor in enumerate(workload.tensors)
    ]
    return [*placed, *views.staging]


def _views(workload: Workload, views: ViewTable) -> list[View]:
    """The views, those of parts as views of their wholes."""
    parts = {part.tensor: part for part in workload.parts}
    return [
        whole_view(view, parts[view.tensor], workload.tensors[parts[view.tensor].whole])
        if view.tensor in parts
        else view
        for view in views.views
    ]


def _infos(workload: Workload, plan: Plan, numbers: Sequence[int]) -> list[StepInfo]:
    infos = map(_info, workload.steps, plan.mappings)
    return [info for _, info in sorted(zip(numbers, infos, strict=True), key=itemgetter(0))]


def _info(step: Step, mapping: Mapping) -> StepInfo:
    dataflow = mapping.dataflow if step.layer.macs else ""
    return StepInfo(step.name, step.kind, step.layer.macs, dataflow, mapping.pods)
