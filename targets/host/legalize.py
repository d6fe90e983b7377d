"""How operators with kernels of their own are written as tensor expressions.

Convolution and matrix product become stages marked ``motet.anchor``, with what the
kernel needs to know in the stage's attributes; every other operator is left to TVM's own
definitions. A convolution is two stages: ``pad`` (padding, and for the transposed kind
also the zeros between elements) and a valid convolution of the padded input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, te, tirx

from motet.targets.host import (
    elementwise,
    indexing,
    narrow,
    normalization,
    pooling,
    quantization,
    resize,
    softmax,
    statistics,
)  # fmt: skip
from motet.targets.host.blocked import legalize_blocked
from motet.targets.host.defaults import by_tvm
from motet.targets.host.elementwise import broadcast_index
from motet.targets.host.kernels import arg_extreme, attention, recurrence, selection
from motet.targets.host.kernels.ordered import arg_sort, cumulative, sort, top_k
from motet.targets.host.kernels.vector_products import anchor as vector_products
from motet.targets.host.kernels.vector_products import quantizing
from motet.targets.host.loops import Expr, index

_Call = Any
_Builder = Any


def _zero(dtype: str) -> Expr:
    return tirx.const(0, dtype)


def padded_input(
    x: te.Tensor, before: Sequence[int], after: Sequence[int], zeros: Sequence[int]
) -> te.Tensor:
    """``x`` (N, C, *spatial) with ``zeros[i] - 1`` zeros between elements, then padded."""
    grown = [(d - 1) * z + 1 for d, z in zip(x.shape[2:], zeros, strict=True)]
    shape = [g + b + a for g, b, a in zip(grown, before, after, strict=True)]

    def element(n: Expr, c: Expr, *position: Expr) -> Expr:
        source, inside = [], []
        for p, b, a, g, z in zip(position, before, after, grown, zeros, strict=True):
            if b:
                inside.append(p >= b)
            if a:
                inside.append(p < g + b)
            if z > 1:
                inside.append(tirx.floormod(p - b, index(z)) == 0)
            source.append(tirx.floordiv(p - b, index(z)) if z > 1 else p - b)
        value = x(n, c, *source)
        return tirx.if_then_else(tirx.all(*inside), value, _zero(x.dtype)) if inside else value

    attrs = {
        "motet.role": "pad", "before": list(before), "after": list(after), "zeros": list(zeros)
    }  # fmt: skip
    return te.compute((*x.shape[:2], *shape), element, name="pad", attrs=attrs)


def valid_convolution(
    xp: te.Tensor, w: te.Tensor, strides: Sequence[int], dilation: Sequence[int], groups: int,
    dtype: str, transposed: bool,
) -> te.Tensor:  # fmt: skip
    """The convolution of a padded input, (N, O, *spatial), marked as an anchor."""
    kernel = [int(k) for k in w.shape[2:]]
    outs = int(w.shape[1]) * groups if transposed else int(w.shape[0])
    per_group = int(xp.shape[1]) // groups
    outs_per_group = outs // groups
    shape = [
        tirx.floordiv(d - (k - 1) * dl - 1, index(s)) + 1
        for d, k, s, dl in zip(xp.shape[2:], kernel, strides, dilation, strict=True)
    ]
    ic = te.reduce_axis((0, per_group), "ic")
    taps = [te.reduce_axis((0, k), "k") for k in kernel]

    def element(n: Expr, o: Expr, *position: Expr) -> Expr:
        group = tirx.floordiv(o, index(outs_per_group)) if groups > 1 else 0
        channel = group * per_group + ic
        at = [p * s + t * d for p, s, t, d in zip(position, strides, taps, dilation, strict=True)]
        flipped = [k - 1 - t for k, t in zip(kernel, taps, strict=True)]
        weight = w(channel, o - group * outs_per_group, *flipped) if transposed else w(o, ic, *taps)
        product = xp(n, channel, *at).astype(dtype) * weight.astype(dtype)
        return te.sum(product, axis=[ic, *taps])

    attrs = {
        "motet.anchor": "conv", "strides": list(strides), "dilation": list(dilation),
        "groups": groups, "transposed": int(transposed),
    }  # fmt: skip
    return te.compute((xp.shape[0], outs, *shape), element, name="conv", attrs=attrs)


def _ints(values: Any) -> list[int]:
    return [int(v) for v in values]


def _accumulator(dtype: str) -> str:
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def _cast_back(tensor: te.Tensor, dtype: str) -> te.Tensor:
    if tensor.dtype == dtype:
        return tensor
    return te.compute(tensor.shape, lambda *i: tensor(*i).astype(dtype), name="cast")


def convolution(layouts: tuple[str, str]) -> Callable[[_Builder, _Call], relax.Expr]:
    """Legalisation of ``R.nn.conv1d/2d/3d`` in its plain layout."""

    def legalize(builder: _Builder, call: _Call) -> relax.Expr:
        attrs = call.attrs
        if (attrs.data_layout, attrs.kernel_layout) != layouts or attrs.out_layout != layouts[0]:
            made = legalize_blocked(builder, call)
            return by_tvm(builder, call) if made is None else made
        rank = len(layouts[0]) - 2
        pads = _ints(attrs.padding)
        dtype = call.ty.dtype

        def compute(x: te.Tensor, w: te.Tensor) -> te.Tensor:
            xp = padded_input(x, pads[:rank], pads[rank:], [1] * rank)
            acc = valid_convolution(
                xp, w, _ints(attrs.strides), _ints(attrs.dilation), int(attrs.groups),
                _accumulator(dtype), False,
            )  # fmt: skip
            return _cast_back(acc, dtype)

        return builder.call_te(compute, *call.args, primfunc_name_hint="conv")

    return legalize


def transposed_convolution(layouts: tuple[str, str]) -> Callable[[_Builder, _Call], relax.Expr]:
    """Legalisation of ``R.nn.conv1d/2d/3d_transpose``: a convolution of the input with
    zeros put between its elements, by the flipped kernel.
    """

    def legalize(builder: _Builder, call: _Call) -> relax.Expr:
        attrs = call.attrs
        rank = len(layouts[0]) - 2
        pads, extra = _ints(attrs.padding), _ints(attrs.output_padding)
        dilation, kernel = _ints(attrs.dilation), _ints(call.args[1].ty.shape.values[2:])
        reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        before = [r - p for r, p in zip(reach, pads[:rank], strict=True)]
        after = [r - p + e for r, p, e in zip(reach, pads[rank:], extra, strict=True)]
        dtype = call.ty.dtype

        def compute(x: te.Tensor, w: te.Tensor) -> te.Tensor:
            xp = padded_input(x, before, after, _ints(attrs.strides))
            acc = valid_convolution(
                xp, w, [1] * rank, dilation, int(attrs.groups), _accumulator(dtype), True
            )
            return _cast_back(acc, dtype)

        return builder.call_te(compute, *call.args, primfunc_name_hint="conv_transpose")

    return legalize


def _is_one(extent: Expr) -> bool:
    return isinstance(extent, tirx.IntImm) and int(extent.value) == 1


def _product(a: te.Tensor, b: te.Tensor, dtype: str) -> te.Tensor:
    rank = max(len(a.shape), len(b.shape)) - 2
    batch = []
    for i in range(-rank - 2, -2):
        da = a.shape[i] if -i <= len(a.shape) else index(1)
        db = b.shape[i] if -i <= len(b.shape) else index(1)
        batch.append(db if _is_one(da) else da)
    k = te.reduce_axis((0, a.shape[-1]), "k")

    def element(*at: Expr) -> Expr:
        lead, m, n = at[:-2], at[-2], at[-1]
        left = a(*broadcast_index(a.shape[:-2], lead), m, k).astype(dtype)
        right = b(*broadcast_index(b.shape[:-2], lead), k, n).astype(dtype)
        return te.sum(left * right, axis=k)

    shape = (*batch, a.shape[-2], b.shape[-1])
    return te.compute(shape, element, name="matmul", attrs={"motet.anchor": "matmul"})


def matrix_product(builder: _Builder, call: _Call) -> relax.Expr:
    """Legalisation of ``R.matmul`` with numpy's rules for batches and vectors."""
    dtype = call.ty.dtype

    def compute(a: te.Tensor, b: te.Tensor) -> te.Tensor:
        row, column = len(a.shape) == 1, len(b.shape) == 1
        a2 = te.compute((1, *a.shape), lambda _, k: a(k), name="row") if row else a
        b2 = te.compute((*b.shape, 1), lambda k, _: b(k), name="column") if column else b
        acc = _product(a2, b2, _accumulator(dtype))
        if not (row or column or acc.dtype != dtype):
            return acc
        shape = list(acc.shape)
        if column:
            shape.pop()
        if row:
            shape.pop(-1 if column else -2)

        def element(*at: Expr) -> Expr:
            full = list(at)
            if row:
                full.insert(len(full) if column else len(full) - 1, index(0))
            if column:
                full.append(index(0))
            return acc(*full).astype(dtype)

        return te.compute(shape, element, name="matmul_result")

    return builder.call_te(compute, *call.args, primfunc_name_hint="matmul")


LEGALIZATIONS: dict[str, Callable[[_Builder, _Call], relax.Expr]] = {
    "relax.nn.conv1d": convolution(("NCW", "OIW")),
    "relax.nn.conv2d": convolution(("NCHW", "OIHW")),
    "relax.nn.conv3d": convolution(("NCDHW", "OIDHW")),
    "relax.nn.conv1d_transpose": transposed_convolution(("NCW", "IOW")),
    "relax.nn.conv2d_transpose": transposed_convolution(("NCHW", "IOHW")),
    "relax.nn.conv3d_transpose": transposed_convolution(("NCDHW", "IODHW")),
    "relax.matmul": matrix_product,
    "relax.cumprod": cumulative(product=True),
    "relax.cumsum": cumulative(product=False),
    "relax.topk": top_k,
    "relax.argsort": arg_sort,
    "relax.sort": sort,
    **arg_extreme.LEGALIZATIONS,
    **attention.LEGALIZATIONS,
    **elementwise.LEGALIZATIONS,
    **pooling.LEGALIZATIONS,
    **quantization.LEGALIZATIONS,
    **indexing.LEGALIZATIONS,
    **selection.LEGALIZATIONS,
    **recurrence.LEGALIZATIONS,
    **resize.LEGALIZATIONS,
    **narrow.LEGALIZATIONS,
    **statistics.LEGALIZATIONS,
    **softmax.LEGALIZATIONS,
    **normalization.LEGALIZATIONS,
    **vector_products.LEGALIZATIONS,
    **quantizing.LEGALIZATIONS,
}
