"""Instructions of a convolution or matrix product, by its mapping.

Sums stay in the accumulators over the whole reduction. Input tiles are gathered from DRAM by
the im2col view, or read from a resident tensor; weights and vectors come from DRAM. The order
of the LOADs is the order of need, and rings have more slots than one tile, so that loads
run ahead of the products.
"""

from __future__ import annotations

from motet.runtime.errors import CompileError
from motet.targets.systolic.emit.context import StepContext
from motet.targets.systolic.emit.epilogue import plan_epilogue
from motet.targets.systolic.emit.product_loops import (
    Memories,
    Nest,
    RingSpan,
    Sizes,
    Templates,
    write_product,
)
from motet.targets.systolic.instructions.isa import (
    DATAFLOW_NAMES,
    Flag,
    Instructions,
    Opcode,
    empty_instructions,
)
from motet.targets.systolic.mappings.memory import Ring, Rings, operands, rings
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct
from motet.targets.systolic.workload.products import ProductViews, product_views

MAX_INSTRUCTIONS = 50_000_000


def emit_product(context: StepContext) -> Instructions:
    """The instructions of a Convolution or MatrixProduct step, in a legal sequential order.

    Raises
    ------
    CompileError: the mapping's tiles do not fit what the step may use of the memories, an
        operand is where the array cannot take it from, or the step has too many tiles.
    """
    step = context.step
    assert isinstance(step.layer, (Convolution, MatrixProduct))
    return emit_views(context, product_views(step.layer, step.inputs, step.output))


def emit_views(context: StepContext, views: ProductViews) -> Instructions:
    """The instructions of one product; a step may be several (``emit_transposed``)."""
    step = context.step
    if step.inputs[1] in context.resident:
        raise CompileError(f"step {step.name!r}: its weight operand must be in DRAM")
    templates = _templates(context, views)
    nest = _nest(context, views)
    memories = _memories(context, len(templates.vectors))
    count = write_product(empty_instructions(1), False, nest, memories, templates)
    if count > MAX_INSTRUCTIONS:
        raise CompileError(
            f"step {step.name!r} takes {count:,} instructions on array "
            f"{context.description.name!r}: use a larger array, or run it on the host"
        )
    made = empty_instructions(count)
    write_product(made, True, nest, memories, templates)
    return made


def _templates(context: StepContext, views: ProductViews) -> Templates:
    resident = context.step.inputs[0] in context.resident
    plan = plan_epilogue(context, views.output)
    product = empty_instructions(3)
    product["step"] = context.number
    product["opcode"] = Opcode.LOAD, Opcode.LOAD, Opcode.MATMUL
    inputs = context.views.number(views.input)
    product["operand"][0] = inputs
    product["operand"][1] = context.views.number(views.weight)
    product["dataflow"][2] = DATAFLOW_NAMES[context.mapping.dataflow]
    if resident:
        product["operand"][2], product["flags"][2] = inputs, Flag.RESIDENT
    epilogue = context.step.epilogue
    bias = epilogue.bias is not None and epilogue.dequantise is None
    return Templates(product, plan.vectors, plan.loads, plan.ends, bias, not resident)


def _nest(context: StepContext, views: ProductViews) -> Nest:
    mapping = context.mapping
    groups, m, n, k = views.shape
    return Nest(
        Sizes(groups, m, n, k),
        Sizes(1, mapping.tile_rows, mapping.tile_columns, mapping.tile_depth),
        mapping.grid,
        mapping.grid_strides,
        mapping.first_pod,
        mapping.rows_outermost,
    )


def product_rings(context: StepContext) -> Rings:
    """Where the step's rings lie; ``context.reach`` has it then."""
    parts = operands(context.step, context.pod, context.format, context.resident)
    made = rings(parts, context.mapping, context.scratchpad.start, context.accumulators.start)
    _check_fits(context, made)
    context.reach.note("scratchpad", made.scratchpad_stop)
    context.reach.note("accumulators", made.accumulator_stop)
    return made


def _memories(context: StepContext, vectors: int) -> Memories:
    made = product_rings(context)
    return Memories(
        _span(made.inputs),
        _span(made.weights),
        _span(made.residuals),
        _span(made.sums),
        _span(made.vectors),
        made.vectors.words // max(1, vectors),
    )


def _span(ring: Ring) -> RingSpan:
    return RingSpan(ring.address, ring.slots, ring.words)


def _check_fits(context: StepContext, made: Rings) -> None:
    for name, stop, free in (
        ("scratchpad", made.scratchpad_stop, context.scratchpad),
        ("accumulators", made.accumulator_stop, context.accumulators),
    ):
        if stop > free.stop:
            raise CompileError(
                f"step {context.step.name!r}: its mapping needs {stop - free.start} words of "
                f"{name}, {len(free)} are free on array {context.description.name!r}; use "
                "smaller tiles or fewer slots in the mapping"
            )
