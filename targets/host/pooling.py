"""Pooling: padding is below every number for a maximum, and 0 for a mean.

Planes of known extents, in the layouts NCHW and NCHW8c, become one stage marked
``motet.anchor = "pool"`` (``kernels/pooling`` writes its nest), a mean two: the sum and the
division by the number of elements. Other maxima become a reduction of the padded input, other
means are TVM's, as is a window that is the whole plane. TVM's own maximum pads with the least
finite number, which then stands for the maximum of a window that holds infinities alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import relax, te, tirx

from motet.targets.host.blocked import block_of_layout
from motet.targets.host.defaults import by_tvm
from motet.targets.host.loops import Expr, constant_of, index

_Call = Any
_Builder = Any
_FLOATS = ("float32", "float64")


def _least(dtype: str) -> Expr:
    return tirx.const(float("-inf"), dtype) if "float" in dtype else tirx.min_value(dtype)


@dataclass(frozen=True)
class _Pool:
    """Windows over planes; all but ``block`` are (vertical, horizontal).

    block: channels of a block of the layout, 0 for the plain one. outputs: extents of the
    result; windows may reach beyond the padding where they were rounded up.
    """

    block: int
    planes: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]

    @property
    def attrs(self) -> dict[str, Any]:
        """What the kernel family reads of a stage."""
        return {
            "motet.anchor": "pool", "block": self.block, "kernel": list(self.kernel),
            "strides": list(self.strides), "dilation": list(self.dilation),
            "padding": list(self.before),
        }  # fmt: skip

    @property
    def whole(self) -> bool:
        """Whether the one window is the plane."""
        return self.kernel == self.planes and set(self.outputs) == {1} and not any(self.before)

    def taken(self, axis: int, at: Expr) -> Expr:
        """Elements of the input along ``axis`` that the window of an output holds."""
        step = self.dilation[axis]
        start = at * self.strides[axis] - self.before[axis]
        first = tirx.max(tirx.floordiv(index(step - 1) - start, index(step)), index(0))
        end = tirx.floordiv(index(self.planes[axis] + step - 1) - start, index(step))
        return tirx.max(tirx.min(end, index(self.kernel[axis])) - first, index(0))


def _pool_of(call: _Call) -> _Pool | None:
    """The pooling of a call that the kernel family can write."""
    attrs, x = call.attrs, call.args[0]
    block = block_of_layout(str(attrs.layout))
    if block is None or str(attrs.out_layout) != str(attrs.layout):
        return None
    sizes = [tuple(constant_of(d) for d in t.ty.shape.values[2:4]) for t in (x, call)]
    planes, outputs = (tuple(d for d in size if d is not None) for size in sizes)
    if len(planes) != 2 or len(outputs) != 2 or 0 in (*planes, *outputs):
        return None
    kernel, strides, dilation, pads = (
        tuple(int(v) for v in values)
        for values in (attrs.pool_size, attrs.strides, attrs.dilation, attrs.padding)
    )
    return _Pool(block, planes, outputs, kernel, strides, dilation, pads[:2])


def _pooled(
    x: te.Tensor, pool: _Pool, pad: Expr, reduce: Callable[..., Expr], what: str
) -> te.Tensor:
    taps = [te.reduce_axis((0, k), "k") for k in pool.kernel]

    def element(n: Expr, c: Expr, oh: Expr, ow: Expr, *lane: Expr) -> Expr:
        at = [
            o * s + t * d - p
            for o, s, t, d, p in zip(
                (oh, ow), pool.strides, taps, pool.dilation, pool.before, strict=True
            )
        ]
        value = x(n, c, *at, *lane)
        if not pool.whole:
            inside = tirx.all(
                *(tirx.all(a >= 0, a < e) for a, e in zip(at, pool.planes, strict=True))
            )
            value = tirx.if_then_else(inside, value, pad)
        return reduce(value, axis=taps)

    shape = (*x.shape[:2], *pool.outputs, *x.shape[4:])
    attrs = {} if pool.whole else {**pool.attrs, "what": what}
    return te.compute(shape, element, name="pool", attrs=attrs)


def _mean(x: te.Tensor, pool: _Pool, count_padding: bool) -> te.Tensor:
    total = _pooled(x, pool, tirx.const(0, x.dtype), te.sum, "sum")
    area = pool.kernel[0] * pool.kernel[1]

    def element(*at: Expr) -> Expr:
        if count_padding:
            return total(*at) / tirx.const(area, x.dtype)
        count = pool.taken(0, at[2]) * pool.taken(1, at[3])
        return total(*at) / tirx.max(count, index(1)).astype(x.dtype)

    return te.compute(total.shape, element, name="mean")


def _inside_only(pool: _Pool) -> bool:
    """Whether every window lies in the input."""
    return not any(pool.before) and all(
        (o - 1) * s + (k - 1) * d < e
        for o, s, k, d, e in zip(
            pool.outputs, pool.strides, pool.kernel, pool.dilation, pool.planes, strict=True
        )
    )


def _max_pool2d(builder: _Builder, call: _Call) -> relax.Expr:
    pool = _pool_of(call)
    if pool is None:
        return max_pool("NCHW")(builder, call)

    def compute(x: te.Tensor) -> te.Tensor:
        return _pooled(x, pool, _least(str(x.dtype)), te.max, "max")

    return builder.call_te(compute, *call.args, primfunc_name_hint="max_pool")


def _avg_pool2d(builder: _Builder, call: _Call) -> relax.Expr:
    pool = _pool_of(call)
    if pool is None or str(call.ty.dtype) not in _FLOATS:
        return by_tvm(builder, call)
    count_padding = bool(call.attrs.count_include_pad) or _inside_only(pool)

    def compute(x: te.Tensor) -> te.Tensor:
        return _mean(x, pool, count_padding)

    return builder.call_te(compute, *call.args, primfunc_name_hint="avg_pool")


def _adaptive_avg_pool2d(builder: _Builder, call: _Call) -> relax.Expr:
    """To one element, the mean of a plane; else TVM's."""
    attrs, shape = call.attrs, call.ty.shape.values
    block = block_of_layout(str(attrs.layout))
    one = [constant_of(d) for d in shape[2:4]] == [1, 1]
    dtype = str(call.ty.dtype)
    if block is None or str(attrs.out_layout) != str(attrs.layout) or not one:
        return by_tvm(builder, call)
    if dtype not in _FLOATS:
        return by_tvm(builder, call)

    def compute(x: te.Tensor) -> te.Tensor:
        axes = [te.reduce_axis((0, d), "k") for d in x.shape[2:4]]
        total = te.compute(
            (*x.shape[:2], 1, 1, *x.shape[4:]),
            lambda n, c, _h, _w, *lane: te.sum(x(n, c, *axes, *lane), axis=axes), name="total",
        )  # fmt: skip
        count = x.shape[2] * x.shape[3]
        return te.compute(total.shape, lambda *at: total(*at) / count.astype(dtype), name="mean")

    return builder.call_te(compute, *call.args, primfunc_name_hint="mean")


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
    """Legalisation of ``R.nn.max_pool1d/2d/3d`` in the plain ``layout`` as a reduction."""
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
    "relax.nn.max_pool2d": _max_pool2d,
    "relax.nn.max_pool3d": max_pool("NCDHW"),
    "relax.nn.avg_pool2d": _avg_pool2d,
    "relax.nn.adaptive_avg_pool2d": _adaptive_avg_pool2d,
}
