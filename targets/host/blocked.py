"""Two-dimensional convolution of tensors whose channels come in blocks of a vector's lanes.

The blocked layout ``NCHW8c`` holds element (n, c, h, w) at ``[n][c / 8][h][w][c % 8]`` (16
instead of 8 with 64-byte vectors): a vector is one position's block of channels. A
convolution reads the plain or the blocked layout and writes either; weights stay (O, I, H, W)
in the program and are packed when the kernel is made. It becomes one stage, padding
included, marked ``motet.anchor = "blocked_conv"``; ``kernels/blocked_conv`` writes its nest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tvm import relax, te, tirx

from motet.targets.host.loops import Expr, index

_Call = Any
_LAYOUT = re.compile(r"NCHW(?:(\d+)c)?")


def block_of_layout(layout: str) -> int | None:
    """Channels of a block in ``NCHW`` (0) or ``NCHW8c`` (8); None for another layout."""
    match = _LAYOUT.fullmatch(layout)
    return None if match is None else int(match.group(1) or 0)


def blocked_layout(block: int) -> str:
    """The layout's name: ``NCHW8c``."""
    return f"NCHW{block}c" if block else "NCHW"


def _channel_at(x: te.Tensor, block: int, n: Expr, c: Expr, h: Expr, w: Expr) -> Expr:
    if not block:
        return x(n, c, h, w)
    return x(n, tirx.floordiv(c, index(block)), h, w, tirx.floormod(c, index(block)))


def _extents(x: te.Tensor, block: int) -> tuple[Expr, int, Expr, Expr]:
    channels = int(x.shape[1]) * (block or 1)
    return x.shape[0], channels, x.shape[2], x.shape[3]


def blocked_convolution(
    x: te.Tensor, w: te.Tensor, blocks: tuple[int, int], padding: Sequence[int],
    strides: Sequence[int], dilation: Sequence[int], groups: int, accumulator: str = "float32",
) -> te.Tensor:  # fmt: skip
    """The convolution as one stage; ``blocks`` are those of the input and of the output, 0
    for the plain layout; ``padding`` is (top, left, bottom, right). Sums are of type
    ``accumulator``, and exact in integers.
    """
    block_in, block_out = blocks
    batch, channels, height, width = _extents(x, block_in)
    outs, per_group = int(w.shape[0]), int(w.shape[1])
    kernel = [int(k) for k in w.shape[2:]]
    top, left, bottom, right = padding
    sizes = [
        tirx.floordiv(d + pad - (k - 1) * dl - 1, index(s)) + 1
        for d, pad, k, s, dl in zip(
            (height, width), (top + bottom, left + right), kernel, strides, dilation, strict=True
        )
    ]
    ic = te.reduce_axis((0, per_group), "ic")
    taps = [te.reduce_axis((0, k), "k") for k in kernel]

    def element(n: Expr, o: Expr, oh: Expr, ow: Expr) -> Expr:
        h = oh * strides[0] + taps[0] * dilation[0] - top
        v = ow * strides[1] + taps[1] * dilation[1] - left
        group = tirx.floordiv(o, index(outs // groups)) if groups > 1 else 0
        value = _channel_at(x, block_in, n, group * per_group + ic, h, v)
        inside = tirx.all(h >= 0, h < height, v >= 0, v < width)
        padded = tirx.if_then_else(inside, value, tirx.const(0, x.dtype))
        product = padded.astype(accumulator) * w(o, ic, *taps).astype(accumulator)
        return te.sum(product, axis=[ic, *taps])

    attrs = {
        "motet.anchor": "blocked_conv", "block_in": block_in, "block_out": block_out,
        "padding": list(padding), "strides": list(strides), "dilation": list(dilation),
        "groups": groups, "channels": channels, "outs": outs,
    }  # fmt: skip
    if not block_out:
        return te.compute((batch, outs, *sizes), element, name="conv", attrs=attrs)
    return te.compute(
        (batch, outs // block_out, *sizes, block_out),
        lambda n, ob, oh, ow, oi: element(n, ob * block_out + oi, oh, ow),
        name="conv", attrs=attrs,
    )  # fmt: skip


def legalize_blocked(builder: Any, call: _Call) -> relax.Expr | None:
    """A convolution with a blocked layout on one side at least; None for any other."""
    attrs = call.attrs
    blocks = block_of_layout(attrs.data_layout), block_of_layout(attrs.out_layout)
    if None in blocks or not any(blocks) or attrs.kernel_layout != "OIHW":
        return None
    settings = [
        [int(v) for v in values] for values in (attrs.padding, attrs.strides, attrs.dilation)
    ]
    return builder.call_te(
        blocked_convolution, *call.args, blocks, *settings, int(attrs.groups), str(call.ty.dtype),
        primfunc_name_hint="conv",
    )  # fmt: skip
