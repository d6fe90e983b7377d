"""``motet.quantize_vectors``: integers and scales of vectors, in one pass over the data.

The arithmetic is that of ``targets/quantized/scales``: float32, divisions included, halves to
even. Where vectors lie along the last axis, a vector of the machine runs along them. Else it runs
over neighbouring positions, so that reading is contiguous::

    for batch, block of positions: parallel
        for g, lanes of the block:
            s = max |x[g V + v]| / largest;  scale = ...;  step = ...
            q[v] = round(x[g V + v] / step), four neighbours in a word
            y[position, g, ...] = words, position by position

The operator becomes one opaque stage marked ``motet.anchor = "quantize_vectors"``, whose
statement only names its buffers: a store of every operand's first element, then one into every
output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

from tvm import relax, s_tir, te, tirx
from tvm.ir import Range
from tvm.ir.expr import GenericConst

from motet.targets.host.kernels.anchor import EmittedAnchor
from motet.targets.host.kernels.injective import worth_parallel
from motet.targets.host.kernels.vector_products.quantizing_across import AcrossVectors
from motet.targets.host.kernels.vector_products.quantizing_along import AlongVectors
from motet.targets.host.loops import (
    Buffer,
    Stmt,
    constant_of,
    index,
    load,
    product,
    seq,
    store,
)
from motet.targets.host.machine import Machine
from motet.targets.host.options import KernelOptions
from motet.targets.host.stages import Stage, StagedFunction, block_of
from motet.targets.operators.vectors import QUANTIZE_VECTORS, Quantizing

_NODES = 40


def _named(attrs: Mapping[str, Any], ins: Sequence[Buffer], outs: Sequence[Buffer]) -> Stmt:
    """A block that names the buffers under the annotations ``attrs``."""
    integers, scales = outs

    def first(buffer: Buffer) -> list[Any]:
        return [index(0)] * len(buffer.shape)

    reads = [store(scales, load(x, *first(x)).astype(scales.dtype), *first(scales)) for x in ins]
    ends = [store(o, tirx.const(0, o.dtype), *first(o)) for o in (integers, scales)]
    whole = [[tirx.BufferRegion(b, [Range(0, d) for d in b.shape]) for b in x] for x in (ins, outs)]
    block = s_tir.SBlock(
        [], *whole, "quantize_vectors", seq(*reads, *ends), annotations=dict(attrs)
    )
    return s_tir.SBlockRealize([], True, block)


def _legalize(builder: Any, call: Any) -> relax.Expr:
    """Legalisation of ``motet.quantize_vectors``."""
    attrs = {str(k): call.attrs[k] for k in call.attrs.keys()}  # noqa: SIM118
    attrs["motet.anchor"] = "quantize_vectors"
    operands = list(call.args)
    if len(operands) == 2 and isinstance(operands[1], GenericConst):
        value = operands.pop().value.numpy().reshape(-1)[0]
        attrs["gamma"] = tirx.const(value.item(), "float32")
    types = [str(part.dtype) for part in call.ty.fields]
    shapes = [list(part.shape.values) for part in call.ty.fields]

    def compute(*tensors: te.Tensor) -> Any:
        return te.extern(
            shapes, list(tensors), partial(_named, attrs), dtype=types, name="quantize_vectors"
        )

    return builder.call_te(compute, *operands, primfunc_name_hint="quantize_vectors")


def _buffers(anchor: Stage) -> tuple[list[Buffer], Buffer, Buffer]:
    """Operands, integers and scales, out of the statement that ``_named`` made."""
    *reads, integers, scales = list(block_of(anchor.statement).body)
    values = [s.value.value if isinstance(s.value, tirx.Cast) else s.value for s in reads]
    return [value.source for value in values], integers.buffer, scales.buffer


def emit_quantizing(
    anchor: Stage, _func: StagedFunction, _constants: Sequence[Buffer], machine: Machine,
    _options: KernelOptions,
) -> EmittedAnchor:  # fmt: skip
    """The nest of a quantisation of vectors."""
    own = {str(k): v for k, v in anchor.attrs.items() if str(k) not in ("motet.anchor", "gamma")}
    what = Quantizing.of(SimpleNamespace(attrs=own))
    operands, integers, scales = _buffers(anchor)
    x = operands[0]
    gamma = None
    if what.kind.scale_bits is not None:
        given = anchor.attrs.get("gamma")
        gamma = given if given is not None else load(operands[1], *[0] * len(operands[1].shape))
    several = worth_parallel(list(x.shape), _NODES, machine)
    flat = [
        tirx.decl_buffer([product(b.shape)], b.dtype, b.name, data=b.data)
        for b in (x, integers, scales)
    ]
    aliases = [
        tirx.DeclBuffer(f, data=b.data) for f, b in zip(flat, (x, integers, scales), strict=True)
    ]
    axis = what.axis % len(x.shape)
    outer, size, inner = product(x.shape[:axis]), x.shape[axis], product(x.shape[axis + 1 :])
    lanes = max(1, machine.vector_bytes // 4)
    kind: type[AlongVectors] | type[AcrossVectors] = AcrossVectors
    if constant_of(inner) == 1:
        kind = AlongVectors
    work = kind(what, gamma, outer, size, inner, (flat[0], flat[1], flat[2]), lanes)
    return EmittedAnchor(seq(*aliases, work.statement(several)), (integers, scales), (anchor,))


LEGALIZATIONS: Mapping[str, Any] = {QUANTIZE_VECTORS: _legalize}
