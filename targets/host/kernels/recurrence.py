"""Recurrent networks: ``motet.recurrence`` as one kernel over all steps.

Sequences of a batch step together; along time they are serial, as they must be. R is read
once a step: for one sequence that is what the kernel's time goes to, so it is packed into one
stream (``recurrent/weights``), at compile time where it is constant. The nest is that of
``recurrent/steps``; operands and gate orders are those of ``motet.targets.operators.recurrence``.

The operator becomes one opaque stage marked ``motet.anchor = "recurrence"``, whose statement
only names its buffers: a store of every operand's first element into the first output, then
one into every output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tvm import relax, s_tir, te, tirx
from tvm.ir import Range

from motet.targets.host.kernels.anchor import EmittedAnchor
from motet.targets.host.kernels.operand import Packing, is_one_of
from motet.targets.host.kernels.recurrent.cells import phases
from motet.targets.host.kernels.recurrent.family import FAMILY, SERIAL, problem_of, width_of
from motet.targets.host.kernels.recurrent.steps import Steps
from motet.targets.host.kernels.recurrent.weights import Blocks, pack_at_run_time
from motet.targets.host.loops import (
    Buffer,
    Stmt,
    allocate,
    constant_of,
    index,
    load,
    scratch,
    seq,
    store,
)  # fmt: skip
from motet.targets.host.machine import Machine
from motet.targets.host.options import KernelOptions
from motet.targets.host.space import choose
from motet.targets.host.stages import Stage, StagedFunction, block_of
from motet.targets.operators.recurrence import NAME, Recurrence


def _first(buffer: Buffer) -> list[Any]:
    return [index(0)] * len(buffer.shape)


def _named(attrs: Mapping[str, Any], ins: Sequence[Buffer], outs: Sequence[Buffer]) -> Stmt:
    """A block that names the buffers, in order, under the annotations ``attrs``."""
    y = outs[0]
    reads = [store(y, load(x, *_first(x)).astype(y.dtype), *_first(y)) for x in ins]
    body = seq(*reads, *[store(o, tirx.const(0, o.dtype), *_first(o)) for o in outs])
    whole = [[tirx.BufferRegion(b, [Range(0, d) for d in b.shape]) for b in x] for x in (ins, outs)]
    block = s_tir.SBlock([], *whole, "recurrence", body, annotations=dict(attrs))
    return s_tir.SBlockRealize([], True, block)


def _buffers(anchor: Stage, operands: int) -> tuple[list[Buffer], list[Buffer]]:
    """Operands and outputs, out of the statement that ``_named`` made."""
    stores = list(block_of(anchor.statement).body)
    values = [s.value for s in stores[:operands]]
    sources = [v.value if isinstance(v, tirx.Cast) else v for v in values]
    return [x.source for x in sources], [s.buffer for s in stores[operands:]]


def recurrence(builder: Any, call: Any) -> relax.Expr:
    """Legalisation of ``motet.recurrence``."""
    what = Recurrence.of(call)
    attrs = {"motet.anchor": "recurrence", **{str(k): call.attrs[k] for k in call.attrs.keys()}}  # noqa: SIM118

    def compute(*tensors: te.Tensor) -> Any:
        steps, batch, _ = tensors[0].shape
        hidden, dtype = tensors[1].shape[0], tensors[0].dtype
        shapes = [[steps, batch, hidden], *[[batch, hidden]] * what.states]
        types = [dtype] * len(shapes)
        return te.extern(
            shapes, list(tensors), partial(_named, attrs), dtype=types, name="recurrence"
        )

    return builder.call_te(compute, *call.args, primfunc_name_hint="recurrence")


def emit_recurrence(
    anchor: Stage, _func: StagedFunction, constants: Sequence[Buffer], machine: Machine,
    _options: KernelOptions,
) -> EmittedAnchor:  # fmt: skip
    """The nest of all steps."""
    what = Recurrence.of(anchor)
    ins, outs = _buffers(anchor, len(what.operands))
    operands = dict(zip(what.operands, ins, strict=True))
    projected, weights = operands["projected"], operands["recurrent"]
    hidden = constant_of(weights.shape[0]) or 0
    if not hidden:
        return EmittedAnchor(tirx.Evaluate(0), tuple(outs), (anchor,))
    bits = int(tirx.const(0, projected.dtype).ty.dtype.bits)
    steps, batch = projected.shape[0], projected.shape[1]
    problem = problem_of(what, steps, batch, hidden, bits)
    point = choose(FAMILY, problem, machine)
    width = width_of(problem, point, machine)
    blocks = Blocks(hidden, width, phases(what))
    packed = scratch("packed", [blocks.size], weights.dtype)
    lanes = width // point["vectors"]
    body = Steps(
        what, operands, packed, outs, blocks, point["rows"], lanes, point["split"]
    ).statement()
    repacked: dict[Buffer, tuple[Buffer, Packing]] = {}
    if is_one_of(weights, constants):
        repacked[weights] = packed, blocks.pack
    else:
        copy = pack_at_run_time(weights, packed, blocks, point["split"] != SERIAL)
        body = seq(allocate(packed), copy, body)
    return EmittedAnchor(body, tuple(outs), (anchor,), repacked)


LEGALIZATIONS = {NAME: recurrence}
