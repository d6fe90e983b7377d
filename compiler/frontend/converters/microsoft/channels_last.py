"""Convolution and pooling with channels last: between two transposes, in ONNX's own layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import relax

from motet.compiler.frontend.converters.convolution import conv
from motet.compiler.frontend.converters.pooling import max_pool
from motet.compiler.frontend.node import Node

from .fused import fused_tail
from .views import optional, plain


def channels_first(node: Node, x: relax.Expr) -> relax.Expr:
    """``[N, ..., C]`` as ``[N, C, ...]``."""
    rank = node.rank(x)
    return node.emit(relax.op.permute_dims(x, [0, rank - 1, *range(1, rank - 1)]))


def channels_last(node: Node, x: relax.Expr) -> relax.Expr:
    """``[N, C, ...]`` as ``[N, ..., C]``."""
    rank = node.rank(x)
    return relax.op.permute_dims(x, [0, *range(2, rank), 1])


def nhwc_conv(node: Node) -> relax.Expr:
    """``NhwcConv`` and ``NhwcFusedConv``; the weight is ``[M, C / group, kH, kW]`` as Conv's."""
    attributes = dict(node.attributes)
    skip = channels_first(node, node.x(3)) if node.has(3) else None
    inputs = [channels_first(node, node.x()), node.value(1), optional(node, 2), skip]
    view = plain(node, node.op_type, inputs, 11, **attributes)
    result = fused_tail(view, view.emit(conv(view)))
    return channels_last(node, node.emit(result))


def nhwc_max_pool(node: Node) -> relax.Expr:
    """``NhwcMaxPool``."""
    view = plain(node, "MaxPool", [channels_first(node, node.x())], 12, **node.attributes)
    return channels_last(node, node.emit(max_pool(view)))


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "NhwcConv": nhwc_conv,
    "NhwcFusedConv": nhwc_conv,
    "NhwcMaxPool": nhwc_max_pool,
}
