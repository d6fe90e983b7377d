"""Which family emits a step, and which mapping a step gets."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as Dict
from dataclasses import replace
from typing import Any

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.emit.context import StepContext
from motet.targets.systolic.emit.elementwise import emit_elementwise
from motet.targets.systolic.emit.layer_norm import emit_layer_norm
from motet.targets.systolic.emit.moves import emit_move
from motet.targets.systolic.emit.pooling import emit_pooling
from motet.targets.systolic.emit.products import emit_product
from motet.targets.systolic.emit.softmax import emit_softmax
from motet.targets.systolic.emit.spatial import emit_spatial
from motet.targets.systolic.emit.transposed import emit_transposed
from motet.targets.systolic.formats import Format
from motet.targets.systolic.instructions.isa import Instructions
from motet.targets.systolic.instructions.program import Element
from motet.targets.systolic.mappings.choose import choose
from motet.targets.systolic.mappings.file import Constraints, constraints_of
from motet.targets.systolic.mappings.line_plan import SPATIAL
from motet.targets.systolic.mappings.mapping import Mapping, Place
from motet.targets.systolic.mappings.plan import Priced
from motet.targets.systolic.mappings.spatial_mapping import choose_spatial_mapping
from motet.targets.systolic.mappings.vector_cost import vector_cycles
from motet.targets.systolic.mappings.vector_mapping import choose_vector_mapping
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import (
    Convolution,
    Elementwise,
    LayerNorm,
    MatrixProduct,
    Pooling,
    Softmax,
    TransposedConvolution,
)
from motet.targets.systolic.workload.moves import Concat, Permute, Slice, Upsample
from motet.targets.systolic.workload.transposed import largest_phase
from motet.targets.systolic.workload.vector_layers import VectorConvolution, VectorProduct

FAMILIES: dict[type, Callable[[StepContext], Instructions]] = {
    Concat: emit_move,
    Convolution: emit_product,
    Elementwise: emit_elementwise,
    LayerNorm: emit_layer_norm,
    MatrixProduct: emit_product,
    Permute: emit_move,
    Pooling: emit_pooling,
    Slice: emit_move,
    Softmax: emit_softmax,
    TransposedConvolution: emit_transposed,
    Upsample: emit_move,
    VectorConvolution: emit_product,
    VectorProduct: emit_product,
}

Pins = dict[str, Any]
"""Fields of ``Mapping`` that are given."""


def emit_step(context: StepContext) -> Instructions:
    """The instructions of any step, in an order in which they could run one by one."""
    if context.mapping.dataflow == SPATIAL and isinstance(context.step.layer, Convolution):
        return emit_spatial(context)
    return FAMILIES[type(context.step.layer)](context)


def step_mapping(
    step: Step,
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    resident: Dict[int, Place],
    *,
    scratchpad_words: int | None = None,
    constraints: Constraints | None = None,
    pods: range | None = None,
) -> Priced:
    """The mapping of any step with the least estimated cycles, and those cycles.

    Parameters
    ----------
    resident: places of the tensors that lie in scratchpads.
    scratchpad_words: what its tiles may take of each pod's scratchpad.
    constraints: by step name, fields of ``Mapping`` that are given.
    pods: those that may be used, neighbours; default all.

    Raises ``CompileError`` where nothing fits.
    """
    given = (step, workload, description, number_format)
    pins = constraints_of(constraints, step.name)
    if isinstance(step.layer, (Convolution, MatrixProduct, TransposedConvolution)):
        sums = workload.tensors[step.output].element is Element.INT32
        spatial = not sums and _may_be_spatial(step, description, pins, pods)
        options = [_product, _spatial] if spatial else [_product]
        if pins.get("dataflow") == SPATIAL and len(options) > 1:
            options = [_spatial]
    else:
        options = [_vector]
    found, refused = [], None
    for option in options:
        try:
            found.append(option(*given, resident, scratchpad_words, pins, pods))
        except CompileError as error:
            refused = refused or error
    if not found:
        assert refused is not None
        raise refused
    return min(found, key=lambda priced: priced.cycles)


def _may_be_spatial(
    step: Step, description: ArrayDescription, pins: Pins, pods: range | None
) -> bool:
    is_depthwise = isinstance(step.layer, Convolution) and step.layer.is_depthwise
    offered = SPATIAL in description.pod(_of_one_kind(description, pins, pods).start).dataflows
    return is_depthwise and offered and pins.get("dataflow", SPATIAL) == SPATIAL


def _product(
    step: Step,
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    resident: Dict[int, Place],
    words: int | None,
    pins: Pins,
    pods: range | None,
) -> Priced:
    scale = 1.0
    if isinstance(step.layer, TransposedConvolution):
        phase = largest_phase(step.layer)
        scale = max(1.0, step.layer.macs / max(1, phase.macs))
        step = replace(step, layer=phase)
    made = choose(
        step,
        workload,
        description,
        number_format,
        resident=resident,
        constraints=pins,
        pods=pods,
        scratchpad_words=words,
    )
    return Priced(made.mapping, made.cycles * scale)


def _by(chooser: Callable[..., Mapping]) -> Callable[..., Priced]:
    """The option of a family that is mapped to pods of one kind."""

    def option(
        step: Step,
        workload: Workload,
        description: ArrayDescription,
        number_format: Format,
        resident: Dict[int, Place],
        words: int | None,
        pins: Pins,
        pods: range | None,
    ) -> Priced:
        given = (step, workload, description, number_format, resident)
        where = _of_one_kind(description, pins, pods)
        made = replace(chooser(*given, pods=where, scratchpad_words=words), **pins)
        if made.pod_numbers.stop > where.stop:
            raise CompileError(
                f"step {step.name!r}: pods {made.first_pod} to {made.pod_numbers.stop - 1} are not "
                f"neighbours of one kind, which end at {where.stop - 1}; pin fewer pods"
            )
        return Priced(made, vector_cycles(*given, made))

    return option


def _of_one_kind(description: ArrayDescription, pins: Pins, pods: range | None) -> range:
    """Of ``pods`` those of the first one's kind, which all steps but products use.

    A pinned first pod is the first one, as far as the array has it.
    """
    pods = range(description.pod_count) if pods is None else pods
    start = min(pins.get("first_pod", pods.start), description.pod_count - 1)
    stop = description.pod_count if "first_pod" in pins else pods.stop
    for number, kind in enumerate(description.pods):
        end = description.first_of(number) + kind.count
        if start < end:
            return range(start, min(stop, end))
    raise AssertionError(f"pod {start} of {description.pod_count}")


_spatial, _vector = _by(choose_spatial_mapping), _by(choose_vector_mapping)
