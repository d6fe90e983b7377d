"""Positions of extremes: the first NaN of a row, else the first largest (smallest) element.

As numpy has it. TVM starts at a position of -1 and the worst number of the type, and so
answers -1 for a row that holds nothing better: zeros of uint8, infinities of float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import relax, te, tirx, topi

from motet.targets.host.kernels.ordered import over_others
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    index,
    load,
    loop,
    product,
    scratch,
    seq,
    store,
)  # fmt: skip

_Call = Any
_Builder = Any


def _is_better(a: Expr, b: Expr, largest: bool) -> Expr:
    better = a > b if largest else a < b
    if "float" not in str(a.ty.dtype):
        return better
    return tirx.all(tirx.any(better, tirx.isnan(a)), tirx.Not(tirx.isnan(b)))


def arg_extreme_statement(x: Buffer, y: Buffer, axis: int, largest: bool) -> Stmt:
    """``y`` = where along ``axis`` of ``x`` the extreme lies; ``y`` may lack that axis."""
    best, where = scratch("best", [1], x.dtype), scratch("where", [1], y.dtype)

    def row(at: Callable[[Expr], list[Expr]]) -> Stmt:
        def step(i: Expr) -> Stmt:
            value = load(x, *at(i))
            first = tirx.any(i == index(0), _is_better(value, load(best, 0), largest))
            taken = seq(store(best, value, 0), store(where, i.astype(y.dtype), 0))
            return tirx.IfThenElse(first, taken, None)

        target = at(index(0))
        if len(y.shape) < len(x.shape):
            del target[axis]
        target += [index(0)] * (len(y.shape) - len(target))
        return seq(
            allocate(best),
            allocate(where),
            store(best, tirx.const(0, x.dtype), 0),
            store(where, tirx.const(0, y.dtype), 0),
            loop("i", x.shape[axis], step),
            store(y, load(where, 0), *target),
        )

    return over_others(x.shape, axis, row)


def _arg_extreme(largest: bool) -> Callable[[_Builder, _Call], relax.Expr]:
    def legalize(builder: _Builder, call: _Call) -> relax.Expr:
        keep, dtype, whole = bool(call.attrs.keepdims), str(call.ty.dtype), call.attrs.axis is None

        def compute(x: te.Tensor) -> te.Tensor:
            flat = topi.reshape(x, [product(x.shape)]) if whole else x
            axis = 0 if whole else int(call.attrs.axis) % len(x.shape)
            left = [index(1)] * (len(x.shape) if whole else 1) if keep else []
            shape = [*flat.shape[:axis], *left, *flat.shape[axis + 1 :]]

            def statement(ins: list[Buffer], outs: list[Buffer]) -> Stmt:
                return arg_extreme_statement(ins[0], outs[0], axis, largest)

            return te.extern([shape], [flat], statement, dtype=[dtype], name="arg_extreme")

        return builder.call_te(compute, *call.args, primfunc_name_hint="arg_extreme")

    return legalize


LEGALIZATIONS: dict[str, Callable[[_Builder, _Call], relax.Expr]] = {
    "relax.argmax": _arg_extreme(True),
    "relax.argmin": _arg_extreme(False),
}
