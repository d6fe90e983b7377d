"""Operators with indices that are known at run time only: no index reaches outside memory.

TVM's definitions read and write wherever an index points. Here an index out of range stands
for the nearest one in range, and what is read of an empty tensor is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, te, tirx, topi

from motet.targets.host.loops import Expr, constant_of, index

_Call = Any
_Builder = Any


def _within(i: Expr, extent: Expr) -> Expr:
    """The index nearest to ``i`` of an axis of ``extent``."""
    i = i.astype("int64")
    return tirx.max(tirx.min(i, extent - 1), index(0))


def _read(x: te.Tensor, at: Sequence[Expr], empty: Sequence[Expr]) -> Expr:
    """``x[at]``; 0 where one of the extents ``empty`` is."""
    open_ = [d > 0 for d in empty if not constant_of(d)]
    value = x(*at)
    return tirx.if_then_else(tirx.all(*open_), value, tirx.const(0, x.dtype)) if open_ else value


def take(builder: _Builder, call: _Call) -> relax.Expr:
    """Legalisation of ``R.take``."""
    wrap = str(call.attrs.mode) == "wrap"

    def compute(x: te.Tensor, indices: te.Tensor) -> te.Tensor:
        # Only a vector may come without an axis.
        place = int(call.attrs.axis or 0) % len(x.shape)
        extent, count = x.shape[place], len(indices.shape)

        def element(*at: Expr) -> Expr:
            i = indices(*at[place : place + count]).astype("int64")
            i = tirx.floormod(i, tirx.max(extent, index(1))) if wrap else _within(i, extent)
            return _read(x, [*at[:place], i, *at[place + count :]], [extent])

        shape = [*x.shape[:place], *indices.shape, *x.shape[place + 1 :]]
        return te.compute(shape, element, name="take")

    return builder.call_te(compute, *call.args, primfunc_name_hint="take")


def gather_elements(builder: _Builder, call: _Call) -> relax.Expr:
    """Legalisation of ``R.gather_elements``."""

    def compute(x: te.Tensor, indices: te.Tensor) -> te.Tensor:
        axis = int(call.attrs.axis) % len(x.shape)

        def element(*at: Expr) -> Expr:
            i = _within(indices(*at), x.shape[axis])
            return _read(x, [*at[:axis], i, *at[axis + 1 :]], [x.shape[axis]])

        return te.compute(indices.shape, element, name="gather_elements")

    return builder.call_te(compute, *call.args, primfunc_name_hint="gather_elements")


def gather_nd(builder: _Builder, call: _Call) -> relax.Expr:
    """Legalisation of ``R.gather_nd``."""
    batch = int(call.attrs.batch_dims)

    def compute(x: te.Tensor, indices: te.Tensor) -> te.Tensor:
        rank, depth = len(indices.shape) - 1, int(indices.shape[-1])
        extents = x.shape[batch : batch + depth]

        def element(*at: Expr) -> Expr:
            picked = [
                _within(indices(*at[:rank], index(k)), extent) for k, extent in enumerate(extents)
            ]
            return _read(x, [*at[:batch], *picked, *at[rank:]], extents)

        shape = [*indices.shape[:-1], *x.shape[batch + depth :]]
        return te.compute(shape, element, name="gather_nd")

    return builder.call_te(compute, *call.args, primfunc_name_hint="gather_nd")


def scatter_elements(builder: _Builder, call: _Call) -> relax.Expr:
    """Legalisation of ``R.scatter_elements``."""

    def compute(x: te.Tensor, indices: te.Tensor, updates: te.Tensor) -> te.Tensor:
        axis = int(call.attrs.axis) % len(x.shape)
        inside = te.compute(
            indices.shape, lambda *at: _within(indices(*at), x.shape[axis]), name="inside"
        )
        return topi.scatter_elements(x, inside, updates, axis, str(call.attrs.reduction))

    return builder.call_te(compute, *call.args, primfunc_name_hint="scatter_elements")


def scatter_nd(builder: _Builder, call: _Call) -> relax.Expr:
    """Legalisation of ``R.scatter_nd``."""

    def compute(x: te.Tensor, indices: te.Tensor, updates: te.Tensor) -> te.Tensor:
        depth = int(indices.shape[-1])

        def element(k: Expr, *at: Expr) -> Expr:
            extent = x.shape[depth - 1]
            for axis in reversed(range(depth - 1)):
                extent = tirx.Select(k == axis, x.shape[axis], extent)
            return _within(indices(*at, k), extent)

        shape = [indices.shape[-1], *indices.shape[:-1]]
        inside = te.compute(shape, element, name="inside")
        return topi.scatter_nd(x, inside, updates, str(call.attrs.reduction))

    return builder.call_te(compute, *call.args, primfunc_name_hint="scatter_nd")


LEGALIZATIONS: dict[str, Callable[[_Builder, _Call], relax.Expr]] = {
    "relax.take": take,
    "relax.gather_elements": gather_elements,
    "relax.gather_nd": gather_nd,
    "relax.scatter_elements": scatter_elements,
    "relax.scatter_nd": scatter_nd,
}
