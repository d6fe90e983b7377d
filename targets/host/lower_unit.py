"""From one Relax unit to one scheduled kernel.

The unit is legalised and fused by TVM into naive nests, read back as stages, and every
stage is written anew: anchors by the family that knows them, with the element-wise stages
around them; the rest as element-wise or reduction nests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax, tirx

from motet.runtime.errors import UnsupportedOperatorError
from motet.targets.host.fast_math import with_fast_math
from motet.targets.host.interface import tensors_only
from motet.targets.host.kernels.anchor import EmittedAnchor
from motet.targets.host.kernels.attention import emit_attention
from motet.targets.host.kernels.blocked_conv.family import emit_blocked_convolution
from motet.targets.host.kernels.conv import emit_convolution
from motet.targets.host.kernels.generic import emit_as_it_came
from motet.targets.host.kernels.injective import emit_injective
from motet.targets.host.kernels.matmul.family import emit_matmul
from motet.targets.host.kernels.operand import Packing
from motet.targets.host.kernels.pooling.family import emit_pool
from motet.targets.host.kernels.recurrence import emit_recurrence
from motet.targets.host.kernels.reduction import emit_reduction
from motet.targets.host.kernels.row_sweeps import emit_rows
from motet.targets.host.kernels.rows import find_rows
from motet.targets.host.kernels.transpose import emit_transposition
from motet.targets.host.kernels.vector_products.anchor import emit_vectors
from motet.targets.host.kernels.vector_products.quantizing import emit_quantizing
from motet.targets.host.legalize import LEGALIZATIONS
from motet.targets.host.loops import Buffer, Stmt, allocate, seq
from motet.targets.host.machine import Machine
from motet.targets.host.options import KernelOptions
from motet.targets.host.quantization import without_round_trips
from motet.targets.host.softmax import with_exp_of_nonpositive
from motet.targets.host.stages import Stage, StagedFunction, inline_injective, read_stages
from motet.targets.host.user_kernel import kernel_of, lower_user_kernel
from motet.targets.host.widen import widen

_ANCHORS = {
    "attention": emit_attention,
    "blocked_conv": emit_blocked_convolution,
    "conv": emit_convolution,
    "matmul": emit_matmul,
    "pool": emit_pool,
    "quantize_vectors": emit_quantizing,
    "recurrence": emit_recurrence,
    "vectors": emit_vectors,
}


@dataclass(frozen=True)
class LoweredUnit:
    """A scheduled kernel.

    func: parameters are the unit's in order, then its outputs; buffers are row-major and
    contiguous, and 64-byte aligned.
    packings: for parameters that are constants, how the weight must be re-laid before it
    is stored; ``func``'s parameter has the packed shape. beside: other constants that a
    packing reads, in order behind its own.
    """

    func: tirx.PrimFunc
    packings: Mapping[int, Packing] = field(default_factory=dict)
    beside: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def packed(self, number: int, constants: Sequence[Any]) -> NDArray[np.generic]:
        """Constant ``number`` of ``constants``, arrays by parameter, as the kernel reads it."""
        pack = self.packings.get(number)
        if pack is None:
            return np.asarray(constants[number])
        return pack(*[constants[i] for i in (number, *self.beside.get(number, ()))])


def fuse(unit: relax.Function) -> Any:
    """The unit as one function of naive nests."""
    builder, unit = relax.BlockBuilder(), widen(unit)
    # Without a public name, FuseTIR may drop or reorder parameters.
    named = unit.with_attr("Primitive", 1).with_attr("global_symbol", "unit")
    callee = builder.add_func(named, "unit")
    main = relax.utils.copy_with_new_vars(unit)
    with builder.function("main", list(main.params)):
        builder.emit_func_output(builder.emit(relax.Call(callee, list(main.params))))
    module = relax.transform.LegalizeOps(LEGALIZATIONS)(builder.get())
    _refuse_unsupported(module["unit"], unit)
    return relax.transform.FuseTIR()(module)["unit"]


def _calls(func: relax.Function) -> list[relax.Call]:
    return [
        b.value for block in func.body.blocks for b in block.bindings
        if isinstance(b.value, relax.Call)
    ]  # fmt: skip


def _refuse_unsupported(legalized: relax.Function, unit: relax.Function) -> None:
    """Raises where an operator is left that is not a kernel of loops."""
    left = [c for c in _calls(legalized) if str(c.op.name) != "relax.call_tir"]
    if not left:
        return
    operators = sorted({str(call.op.name) for call in (*left, *_calls(unit))})
    raise UnsupportedOperatorError(f"no CPU kernel for {', '.join(operators)}")


def _output_count(unit: relax.Function) -> int:
    ty = unit.ret_ty
    return len(ty.fields) if isinstance(ty, relax.TupleType) else 1


def lower_unit(
    unit: relax.Function,
    constant_params: frozenset[int],
    machine: Machine,
    options: KernelOptions | None = None,
) -> LoweredUnit:
    """Schedules a unit for a machine.

    Parameters
    ----------
    unit : relax.Function
        Tensors in, one tensor or a tuple out; one block of high-level operators.
    constant_params : frozenset[int]
        Positions of parameters whose values are known at compile time.
    machine : Machine
        What the kernel is tiled for.
    options : KernelOptions, optional
        What the specification asks of kernels.

    Raises
    ------
    UnsupportedOperatorError
        Where an operator has no definition that can run without TVM.
    """
    calls = _calls(unit)
    if len(calls) == 1 and kernel_of(calls[0]) is not None:
        return LoweredUnit(lower_user_kernel(unit, calls[0], machine))
    func = inline_injective(read_stages(fuse(unit), _output_count(unit)))
    func = replace(func, stages=tuple(_written_out(s) for s in func.stages))
    return _with_anchors(func, constant_params, machine, options or KernelOptions())


def _written_out(stage: Stage) -> Stage:
    """``stage`` with functions as polynomials."""
    if not stage.opaque:
        stage = replace(stage, value=without_round_trips(stage.value))
    return with_fast_math(with_exp_of_nonpositive(stage))


def _with_anchors(
    func: StagedFunction, constant_params: frozenset[int], machine: Machine,
    options: KernelOptions,
) -> LoweredUnit:  # fmt: skip
    """Every stage as a nest of its own; those around an anchor become part of it."""
    constants = [func.params[i] for i in sorted(constant_params)]
    body: list[Stmt] = []
    repacked: dict[Any, tuple[Buffer, Packing]] = {}
    beside: dict[Any, tuple[Buffer, ...]] = {}
    emitted: dict[int, EmittedAnchor] = {}
    consumed: set[int] = set()
    for stage in func.stages:
        anchor = str(stage.attrs.get("motet.anchor", ""))
        if anchor:
            made = _ANCHORS[anchor](stage, func, constants, machine, options)
            emitted[id(stage)] = made
            consumed.update(id(s) for s in made.consumed)
            repacked.update(made.repacked)
            beside.update(made.beside)
    rows = None if emitted else find_rows(func, machine)
    if rows is not None:
        first, *others = rows.stages
        emitted[id(first)] = EmittedAnchor(emit_rows(rows, machine), rows.visible, tuple(others))
        consumed.update(id(s) for s in others)
    for stage in func.stages:
        if id(stage) in emitted:
            body.append(emitted[id(stage)].statement)
        elif id(stage) not in consumed:
            body.append(_emit(stage, machine))
    return replace(
        _assemble(func, body, consumed, emitted, repacked), beside=_numbered(func, beside)
    )


def _numbered(
    func: StagedFunction, beside: Mapping[Any, tuple[Buffer, ...]]
) -> dict[int, tuple[int, ...]]:
    """``beside`` by positions of parameters."""
    places = {buffer: number for number, buffer in enumerate(func.params)}
    return {places[of]: tuple(places[b] for b in others) for of, others in beside.items()}


def _emit(stage: Stage, machine: Machine) -> Stmt:
    if stage.injective:
        moved = emit_transposition(stage, machine)
        return emit_injective(stage, machine) if moved is None else moved
    if stage.opaque:
        return emit_as_it_came(stage)
    return emit_reduction(stage, machine)


def _assemble(
    func: StagedFunction, body: list[Stmt], consumed: set[int],
    emitted: Mapping[int, EmittedAnchor], repacked: Mapping[Any, tuple[Buffer, Packing]],
) -> LoweredUnit:  # fmt: skip
    params = [repacked[p][0] if p in repacked else p for p in func.params]
    packings = {i: repacked[p][1] for i, p in enumerate(func.params) if p in repacked}
    written = [b for made in _written(func, consumed, emitted) for b in made]
    local = [b for b in written if not any(b.same_as(o) for o in func.outputs)]
    whole = seq(*[allocate(b) for b in local], *body)
    tensors, whole = tensors_only(params, whole)
    prim = tirx.PrimFunc(tensors, whole).with_attr("tirx.noalias", True)
    return LoweredUnit(prim, packings)


def _written(
    func: StagedFunction, consumed: set[int], emitted: Mapping[int, EmittedAnchor]
) -> list[tuple[Buffer, ...]]:
    """Buffers that the kernel fills, an anchor's only where no epilogue took its place."""
    result = []
    for stage in func.stages:
        made = emitted.get(id(stage))
        if made is not None:
            result.append(made.outputs)
        elif id(stage) not in consumed:
            result.append(stage.outputs)
    return result
