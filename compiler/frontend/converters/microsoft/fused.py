"""Convolutions and matrix products with what onnxruntime's optimizers fused into them.

Each becomes the plain operators again, whose fusion is the passes' business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend import tvm_converters
from motet.compiler.frontend.converters import elementwise, linear
from motet.compiler.frontend.converters.agreeing import added
from motet.compiler.frontend.converters.convolution import conv
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import Constant, Tensor, Value

from .activations import fast_gelu
from .views import optional, plain

# Activations by name: their converter, and their parameters in the order of the lists.
_TVM = tvm_converters.convert
_ACTIVATIONS: dict[str, tuple[Callable[[Node], Any], tuple[str, ...]]] = {
    "Clip": (elementwise.clip, ("min", "max")),
    "Elu": (elementwise.elu, ("alpha",)),
    "HardSigmoid": (_TVM, ("alpha", "beta")),
    "HardSwish": (_TVM, ()),
    "LeakyRelu": (_TVM, ("alpha",)),
    "Relu": (_TVM, ()),
    "Selu": (elementwise.selu, ("alpha", "gamma")),
    "Sigmoid": (_TVM, ()),
    "Softplus": (_TVM, ()),
    "Softsign": (_TVM, ()),
    "Tanh": (_TVM, ()),
    "ThresholdedRelu": (elementwise.thresholded_relu, ("alpha",)),
}
_OPSET = 10  # at which Clip's bounds are attributes


def activated(
    node: Node, x: relax.Expr, name: str, parameters: Sequence[float | None]
) -> relax.Expr:
    """``x`` through the activation called ``name``; parameters may be None, or too few."""
    if not name:
        return x
    if name not in _ACTIVATIONS:
        node.refuse(f"the activation '{name}'")
    convert, names = _ACTIVATIONS[name]
    attributes: dict[str, Any] = dict(zip(names, parameters, strict=False))
    return convert(plain(node, name, [x], _OPSET, **attributes))


def fused_conv(node: Node) -> relax.Expr:
    """``FusedConv``: the activation of convolution + bias + Z."""
    return fused_tail(node, node.emit(conv(node)))


def fused_tail(node: Node, result: relax.Expr) -> relax.Expr:
    """A fused convolution's ``result`` + Z through its activation."""
    if node.has(3):
        result = added(node, result, node.x(3))
    parameters = list(node.attr("activation_params") or ())
    return activated(node, result, str(node.attr("activation", "")), parameters)


def fused_gemm(node: Node) -> relax.Expr:
    """``FusedGemm``: Gemm, then an activation."""
    name = str(node.attr("activation", ""))
    names = _ACTIVATIONS[name][1] if name in _ACTIVATIONS else ()
    parameters = [node.attr(f"activation_{p}") for p in names]
    return activated(node, node.emit(linear.gemm(node)), name, parameters)


def _operand(node: Node, index: int, side: str) -> Value:
    """A factor with its axes as a plain product takes them."""
    value = node.value(index)
    rank = node.rank(node.tensor(value))
    order = list(range(rank))
    if node.attr(f"transBatch{side}", 0) and rank > 2:
        order = [*order[1:-1], 0, order[-1]]
    if node.attr(f"trans{side}", 0) and rank > 1:
        order[-2:] = order[:-3:-1]
    if order == list(range(rank)):
        return value
    if isinstance(value, Constant):
        return Constant(np.ascontiguousarray(value.array.transpose(order)))
    return Tensor(node.emit(relax.op.permute_dims(node.tensor(value), order)))


def fused_mat_mul(node: Node) -> relax.Expr:
    """``FusedMatMul``: alpha A B, each transposed where asked; a constant takes alpha."""
    a, b = _operand(node, 0, "A"), _operand(node, 1, "B")
    alpha = float(node.attr("alpha", 1.0))
    if alpha != 1.0 and isinstance(b, Constant):
        b, alpha = Constant((b.array * alpha).astype(b.array.dtype)), 1.0
    result = linear.mat_mul(plain(node, "MatMul", [a, b], 13))
    if alpha == 1.0:
        return result
    return relax.op.multiply(node.emit(result), node.scalar(alpha))


def gemm_fast_gelu(node: Node) -> relax.Expr:
    """``GemmFastGelu``: FastGelu of x W + bias."""
    product = node.emit(linear.mat_mul(plain(node, "MatMul", node.inputs[:2], 13)))
    return fast_gelu(plain(node, "FastGelu", [product, optional(node, 2)], 1))


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "FusedConv": fused_conv,
    "FusedGemm": fused_gemm,
    "FusedMatMul": fused_mat_mul,
    "TransposeMatMul": fused_mat_mul,
    "GemmFastGelu": gemm_fast_gelu,
}
