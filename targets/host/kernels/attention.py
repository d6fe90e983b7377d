"""Attention of all heads as one kernel: ``motet.attention``.

The scores are never a tensor in memory: a block of their rows stays in the cache between the
two products (``attending/task``). Operands are read where they lie, heads beside each other or
apart (``attending/views``), keys and values packed by head (``attending/packing``).

The operator becomes one opaque stage marked ``motet.anchor = "attention"``, whose statement
only names its buffers, operands first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tvm import relax, s_tir, te, tirx
from tvm.ir import Range

from motet.runtime.errors import UnsupportedOperatorError
from motet.targets.host.kernels.anchor import EmittedAnchor
from motet.targets.host.kernels.attending.family import (
    FAMILY,
    is_parallel,
    problem_of,
    shape_of,
)
from motet.targets.host.kernels.attending.task import attend
from motet.targets.host.kernels.attending.views import Operands
from motet.targets.host.loops import Buffer, Stmt, index, load, seq, store
from motet.targets.host.machine import Machine
from motet.targets.host.options import KernelOptions
from motet.targets.host.space import choose
from motet.targets.host.stages import Stage, StagedFunction, block_of
from motet.targets.operators.attention import NAME, Attention, result_shape


def _first(buffer: Buffer) -> list[Any]:
    return [index(0)] * len(buffer.shape)


def _named(attrs: Mapping[str, Any], ins: Sequence[Buffer], outs: Sequence[Buffer]) -> Stmt:
    """A block that names the buffers, in order, under the annotations ``attrs``."""
    (y,) = outs
    body = seq(*[store(y, load(x, *_first(x)), *_first(y)) for x in ins])
    whole = [[tirx.BufferRegion(b, [Range(0, d) for d in b.shape]) for b in x]
             for x in (ins, outs)]  # fmt: skip
    block = s_tir.SBlock([], *whole, "attention", body, annotations=dict(attrs))
    return s_tir.SBlockRealize([], True, block)


def _legalize(builder: Any, call: Any) -> relax.Expr:
    """Legalisation of ``motet.attention``."""
    what = Attention.of(call)
    if any(str(argument.ty.dtype) != "float32" for argument in call.args):
        raise UnsupportedOperatorError("no CPU kernel for attention of other types than float32")
    attrs = {"motet.anchor": "attention", **{str(k): call.attrs[k] for k in call.attrs.keys()}}  # noqa: SIM118

    def compute(*tensors: te.Tensor) -> te.Tensor:
        shape = result_shape(what, tensors[0].shape, tensors[2].shape)
        return te.extern(
            [shape], list(tensors), partial(_named, attrs), dtype=["float32"], name="attention"
        )

    return builder.call_te(compute, *call.args, primfunc_name_hint="attention")


def emit_attention(
    anchor: Stage, _func: StagedFunction, _constants: Sequence[Buffer], machine: Machine,
    _options: KernelOptions,
) -> EmittedAnchor:  # fmt: skip
    """The nest of all heads."""
    stores = list(block_of(anchor.statement).body)
    tensors, result = [s.value.source for s in stores], stores[0].buffer
    operands = Operands.of(Attention.of(anchor), tensors, result)
    problem = problem_of(operands)
    point = choose(FAMILY, problem, machine)
    shape = shape_of(problem, point, machine)
    body = attend(operands, shape, is_parallel(problem, machine))
    return EmittedAnchor(body, (result,), (anchor,))


LEGALIZATIONS = {NAME: _legalize}
