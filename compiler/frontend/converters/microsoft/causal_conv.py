"""CausalConvWithState: the short convolution of state-space models, with what it remembers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import relax

from motet.compiler.frontend.converters.convolution import conv
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import simplify

from .views import optional, plain

_ONLY = {"ndim": 1, "channels_last": 0, "state_window": 0}


def causal_conv_with_state(node: Node) -> list[relax.Expr]:
    """``CausalConvWithState`` of ``[B, C, L]``: each channel with its own weights over the
    present and the ``reach`` cells before it; the last ``reach`` cells for the next call.
    """
    for name, only in _ONLY.items():
        if node.attr(name, only) != only:
            node.refuse(f"{name} = {node.attr(name)}: only {only} is supported")
    batch, _, length = node.shape()
    channels, _, taps = node.static(node.shape(node.x(1)), "the shape of the weight")
    dilation = int(node.attr("dilation", 1))
    reach = (taps - 1) * dilation
    if node.has(3):
        past = node.x(3)
    else:
        past = node.emit(relax.op.zeros(relax.ShapeExpr([batch, channels, reach]), node.dtype()))
    joined = node.emit(relax.op.concat([past, node.x()], 2)) if reach else node.x()
    inputs = [joined, node.value(1), optional(node, 2)]
    result = node.emit(conv(plain(node, "Conv", inputs, 11, group=channels, dilations=[dilation])))
    activation = str(node.attr("activation", "none"))
    if activation not in ("none", "silu", "swish"):
        node.refuse(f"the activation '{activation}'")
    if activation != "none":
        result = node.emit(relax.op.nn.silu(result))
    if node.outputs == 1:
        return [result]
    total = simplify(length + reach)
    return [result, relax.op.strided_slice(joined, [2], [simplify(total - reach)], [total])]


CONVERTERS: dict[str, Callable[[Node], Any]] = {"CausalConvWithState": causal_conv_with_state}
