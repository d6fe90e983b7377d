"""Maximum pooling whose padding is below every number, minus infinity included.

TVM pads with the least finite number of the type, which then stands for the maximum of a
window that holds infinities alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, te, tirx

from motet.targets.host.defaults import by_tvm
from motet.targets.host.loops import Expr, index

_Call = Any
_Builder = Any


def _least(dtype: str) -> Expr:
    return tirx.const(float("-inf"), dtype) if "float" in dtype else tirx.min_value(dtype)


def _padded(x: te.Tensor, before: Sequence[int], after: Sequence[int]) -> te.Tensor:
    if not any((*before, *after)):
        return x
    spatial = x.shape[2:]
    shape = [d + b + a for d, b, a in zip(spatial, before, after, strict=True)]

    def element(n: Expr, c: Expr, *at: Expr) -> Expr:
        inside = [
            tirx.all(p >= b, p < d + b)
            for p, d, b, a in zip(at, spatial, before, after, strict=True)
            if a or b
        ]
        value = x(n, c, *(p - b for p, b in zip(at, before, strict=True)))
        return tirx.if_then_else(tirx.all(*inside), value, _least(str(x.dtype)))

    return te.compute((*x.shape[:2], *shape), element, name="pad")


def max_pool(layout: str) -> Callable[[_Builder, _Call], relax.Expr]:
    """Legalisation of ``R.nn.max_pool1d/2d/3d`` in the plain ``layout``."""
    rank = len(layout) - 2

    def legalize(builder: _Builder, call: _Call) -> relax.Expr:
        attrs = call.attrs
        if attrs.layout != layout or attrs.ceil_mode:
            return by_tvm(builder, call)
        kernel, strides, dilation, pads = (
            [int(v) for v in values]
            for values in (attrs.pool_size, attrs.strides, attrs.dilation, attrs.padding)
        )

        def compute(x: te.Tensor) -> te.Tensor:
            xp = _padded(x, pads[:rank], pads[rank:])
            taps = [te.reduce_axis((0, k), "k") for k in kernel]
            shape = [
                tirx.floordiv(d - (k - 1) * dl - 1, index(s)) + 1
                for d, k, s, dl in zip(xp.shape[2:], kernel, strides, dilation, strict=True)
            ]

            def element(n: Expr, c: Expr, *at: Expr) -> Expr:
                places = [
                    p * s + t * d for p, s, t, d in zip(at, strides, taps, dilation, strict=True)
                ]
                return te.max(xp(n, c, *places), axis=taps)

            return te.compute((*x.shape[:2], *shape), element, name="max_pool")

        return builder.call_te(compute, *call.args, primfunc_name_hint="max_pool")

    return legalize


LEGALIZATIONS: dict[str, Callable[[_Builder, _Call], relax.Expr]] = {
    "relax.nn.max_pool1d": max_pool("NCW"),
    "relax.nn.max_pool2d": max_pool("NCHW"),
    "relax.nn.max_pool3d": max_pool("NCDHW"),
}
