"""How an output tile of a product ends: residual, requantise, activation, limits, and out.

``plan_epilogue`` makes template records, once a step; ``write_epilogue`` patches copies of them
for a tile, in compiled code. The bias is not here: MATMUL starts its sums from it. Limits are
free in the STORE or TRANSFER; everything else takes as few VECTORs as the ISA allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import Any

import numpy as np
from numba import njit

from motet.runtime.errors import CompileError
from motet.targets.systolic.emit.context import StepContext
from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.isa import (
    Activation,
    Flag,
    Function,
    Instructions,
    Opcode,
    empty_instructions,
)
from motet.targets.systolic.instructions.program import Element
from motet.targets.systolic.mappings.memory import granules, slot_words

_LOAD, _VECTOR = int(Opcode.LOAD), int(Opcode.VECTOR)
_RESIDENT, _REQUANTISE = int(Flag.RESIDENT), int(Function.REQUANTISE)
_ADD, _DEQUANTISE = int(Function.ADD), int(Function.DEQUANTISE)
_COLUMN_ADD = int(Function.COLUMN_ADD)
WITH_ALPHA = (Activation.HARD_SIGMOID, Activation.LEAKY_RELU, Activation.ELU)
"""Activations whose parameter is ``alpha``, which ADD needs for its own."""


@dataclass(frozen=True)
class EpiloguePlan:
    """Template records of a step's epilogue.

    Attributes
    ----------
    loads: of a residual tile from DRAM; empty or one.
    ends: VECTORs, and the STORE or TRANSFER.
    vectors: LOADs of the vectors [columns] of a column tile: bias, then scales; each may lack.
        Of products of vectors: factors, then bias.
    """

    loads: Instructions
    ends: Instructions
    vectors: Instructions


def plan_epilogue(context: StepContext, output: View) -> EpiloguePlan:
    """Templates for tiles of view ``output``; raises ``CompileError`` for what the array lacks."""
    epilogue = context.step.epilogue
    loads: list[Instructions] = []
    passes: list[Instructions] = []
    if epilogue.dequantise is not None:
        passes += _float_passes(context)
    if epilogue.residual is not None:
        residual = _residual_view(context, output, epilogue.residual)
        if epilogue.residual not in context.resident:
            loads.append(_record(context, Opcode.LOAD, operand=residual))
        passes.append(_residual_pass(context, residual))
    if epilogue.requantise is not None:
        zero = epilogue.requantise.zero_point & 0xFFFFFFFF
        passes.append(_record(context, Opcode.VECTOR, function=Function.REQUANTISE, value=zero))
    _add_activation(context, passes)
    ends = [*passes, _out(context, output)]
    return EpiloguePlan(_stack(loads), _stack(ends), _stack(_vector_loads(context, output)))


def _record(context: StepContext, opcode: Opcode, **fields: Any) -> Instructions:
    made = empty_instructions(1)
    made["opcode"], made["step"] = opcode, context.number
    for name, value in fields.items():
        made[name] = value
    return made


def _stack(records: list[Instructions]) -> Instructions:
    return np.concatenate(records) if records else empty_instructions(0)


def _float_passes(context: StepContext) -> list[Instructions]:
    """Sums of vectors to floats, and the bias.

    A vector's address counts from the step's vectors of the tile: ``write_epilogue``.
    """
    made = [_record(context, Opcode.VECTOR, function=Function.DEQUANTISE)]
    if context.step.epilogue.bias is not None:
        granule = granules(context.pod, context.format)["accumulators"]
        behind = int(slot_words(context.mapping.tile_columns, granule))
        made.append(
            _record(context, Opcode.VECTOR, function=Function.COLUMN_ADD, third_address=behind)
        )
    return made


def _residual_view(context: StepContext, output: View, residual: int) -> int:
    tensor = context.workload.tensors[residual]
    if tensor.element is not Element.WORD:
        raise CompileError(
            f"step {context.step.name!r}: residual {tensor.name or residual} is "
            f"{tensor.element.name}, the array adds words of {context.format.name}; "
            "leave the sum to the host"
        )
    return context.views.number(replaced(output, tensor=residual))


def _residual_pass(context: StepContext, view: int) -> Instructions:
    fields: dict[str, Any] = {"function": Function.ADD, "alpha": 1.0}
    if context.step.epilogue.residual in context.resident:
        fields |= {"operand": view, "flags": Flag.RESIDENT}
    return _record(context, Opcode.VECTOR, **fields)


def _add_activation(context: StepContext, passes: list[Instructions]) -> None:
    """The activation in the last pass, or in one of its own where ``alpha`` is taken."""
    activation, alpha = context.step.epilogue.activation, context.step.epilogue.alpha
    if activation is Activation.NONE:
        return
    if context.format.is_integer:
        raise CompileError(
            f"step {context.step.name!r}: activation {activation.name} needs fp32 or bf16, not "
            f"{context.format.name}; compile it in a float format or leave it to the host"
        )
    if not passes or activation in WITH_ALPHA:
        passes.append(_record(context, Opcode.VECTOR, alpha=alpha))
    passes[-1]["activation"] = activation


def _out(context: StepContext, output: View) -> Instructions:
    low, high = context.step.epilogue.clamp or (-np.inf, np.inf)
    place = context.resident.get(output.tensor)
    fields: dict[str, Any] = {"operand": context.views.number(output), "low": low, "high": high}
    if place is None:
        return _record(context, Opcode.STORE, **fields)
    fields |= {"target_pod": place.pods.start, "target_pods": len(place.pods)}
    return _record(context, Opcode.TRANSFER, **fields)


def _vector_loads(context: StepContext, output: View) -> list[Instructions]:
    epilogue = context.step.epilogue
    scale = epilogue.requantise.scale if epilogue.requantise else None
    of_sums = epilogue.dequantise is not None
    numbers = (epilogue.dequantise, epilogue.bias) if of_sums else (epilogue.bias, scale)
    return [
        _record(
            context, Opcode.LOAD, operand=_vector_view(context, output, n), flags=Flag.ACCUMULATORS
        )
        for n in numbers
        if n is not None
    ]


def _vector_view(context: StepContext, output: View, tensor: int) -> int:
    """A vector of all channels cut by groups, or one that every group uses."""
    held, columns = context.workload.tensors[tensor], output.column_count
    stride = columns if held.elements == columns * output.group.extent else 0
    if not stride and held.elements not in (columns, 1):
        raise CompileError(
            f"step {context.step.name!r}: vector {held.name or tensor} has {held.elements} values "
            f"for {columns * output.group.extent} output channels"
        )
    group = Loop(output.group.extent, stride if output.group.extent > 1 else 0)
    one = (Loop(1, 0),)
    step = 0 if held.elements == 1 else 1
    return context.views.number(View(tensor, held.shape, group, one, (Loop(columns, step),)))


@njit(cache=True, nogil=True)
def write_epilogue(
    out: Any,
    at: int,
    templates: Any,
    pod: int,
    place: Any,
    accumulator: int,
    residual: int,
    scale: int,
) -> int:
    """Write ``templates`` (``EpiloguePlan.loads`` or ``ends``) for one tile to ``out[at:]``.

    place: (group, row, column, rows, columns) of the tile in the output. accumulator: its
    address; residual: the scratchpad address of its residual tile; scale: the accumulator
    address of the scales, which the templates' ``third_address`` is added to. Returns where the
    next record goes.
    """
    group, row, column, rows, columns = place
    for i in range(len(templates)):
        out[at] = templates[i]
        one = out[at]
        one.pod = pod
        one.rows, one.columns = rows, columns
        if one.opcode == _LOAD:
            one.target_pod = pod
            one.address = residual
        else:
            one.accumulator_address = accumulator
        if one.opcode != _VECTOR or one.flags & _RESIDENT:
            one.group, one.row, one.column = group, row, column
        elif one.function == _ADD:
            one.second_address = residual
        elif one.function in (_REQUANTISE, _DEQUANTISE, _COLUMN_ADD):
            one.third_address += scale
        at += 1
    return at
