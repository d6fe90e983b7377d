"""Selections of a run-time extent: positions of what is true, top-k.

Positions are found in one serial pass; the extent that the caller counted before bounds
what is written, whatever the data.
"""

from __future__ import annotations

from typing import Any

from tvm import relax, te, tirx

from motet.targets.host.kernels.nms import non_max_suppression
from motet.targets.host.kernels.ordered import selection_statement
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    index,
    load,
    nest,
    scratch,
    seq,
    store,
)  # fmt: skip

_Call = Any
_Builder = Any


def nonzero_statement(x: Buffer, out: Buffer) -> Stmt:
    """``out[:, j]``: the position of true element number ``j`` of ``x``."""
    found = scratch("found", [1], "int64")
    slot = load(found, 0)

    def element(*at: Expr) -> Stmt:
        put = [store(out, i.astype("int64"), axis, slot) for axis, i in enumerate(at)]
        keep = seq(*put, store(found, slot + 1, 0))
        return tirx.IfThenElse(tirx.all(load(x, *at), slot < out.shape[1]), keep, None)

    names = [f"i{axis}" for axis in range(len(x.shape))]
    return seq(allocate(found), store(found, index(0), 0), nest(names, x.shape, element))


def nonzero(builder: _Builder, call: _Call) -> relax.Expr:
    """Legalisation of ``motet.nonzero``."""
    shape = call.ty.shape.values

    def compute(x: te.Tensor) -> te.Tensor:
        def statement(ins: list[Buffer], outs: list[Buffer]) -> Stmt:
            return nonzero_statement(ins[0], outs[0])

        return te.extern([shape], [x], statement, dtype=["int64"], name="nonzero")

    return builder.call_te(compute, call.args[0], primfunc_name_hint="nonzero")


def top_k(builder: _Builder, call: _Call) -> relax.Expr:
    """Legalisation of ``motet.topk``."""
    axis, largest = int(call.attrs["axis"]), bool(int(call.attrs["largest"]))
    count, parts = call.args[1].values[0], call.ty.fields

    def compute(x: te.Tensor) -> Any:
        def statement(ins: list[Buffer], outs: list[Buffer]) -> Stmt:
            return selection_statement(ins[0], outs[0], outs[1], axis, count, largest)

        shapes, dtypes = [part.shape.values for part in parts], [part.dtype for part in parts]
        return te.extern(shapes, [x], statement, dtype=dtypes, name="select")

    return builder.call_te(compute, call.args[0], primfunc_name_hint="topk")


LEGALIZATIONS = {
    "motet.nonzero": nonzero,
    "motet.topk": top_k,
    "motet.nms": non_max_suppression,
}
