"""Activations of the ``com.microsoft`` domain, some with a bias added before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import relax

from motet.compiler.frontend.converters.agreeing import added
from motet.compiler.frontend.converters.elementwise import swish
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import same

from .views import plain


def gelu(node: Node) -> relax.Expr:
    """``Gelu``: x * (1 + erf(x / sqrt 2)) / 2."""
    return relax.op.nn.gelu(node.x())


def _biased(node: Node) -> relax.Expr:
    """Input 0 plus the bias (input 1) of its last dimension, where there is one."""
    return node.emit(relax.op.add(node.x(), node.x(1))) if node.has(1) else node.x()


def bias_gelu(node: Node) -> relax.Expr:
    """``BiasGelu``: Gelu of input 0 plus a bias (input 1) of its last dimension."""
    return relax.op.nn.gelu(_biased(node))


def fast_gelu(node: Node) -> relax.Expr:
    """``FastGelu``: Gelu's tanh approximation, of input 0 plus a bias where there is one."""
    return relax.op.nn.gelu_tanh(_biased(node))


def quick_gelu(node: Node) -> relax.Expr:
    """``QuickGelu``: x * sigmoid(alpha x)."""
    alpha = float(node.attr("alpha", 1.702))
    return swish(plain(node, "Swish", [node.value(0)], 24, alpha=alpha))


def bias_add(node: Node) -> relax.Expr:
    """``BiasAdd``: x + bias + skip."""
    return added(node, _biased(node), node.x(2))


def bias_split_gelu(node: Node) -> relax.Expr:
    """``BiasSplitGelu``: of x + bias, the left half times the Gelu of the right half."""
    halves = node.emit(relax.op.split(_biased(node), 2, node.rank() - 1))
    left, right = (node.emit(relax.TupleGetItem(halves, i)) for i in range(2))
    return relax.op.multiply(left, relax.op.nn.gelu(right))


def bias_softmax(node: Node) -> relax.Expr:
    """``BiasSoftmax``: the softmax of x + bias over all axes from ``axis`` on, taken as one.

    The bias keeps the axes from ``axis`` on; before them, ``is_inner_broadcast`` says which
    of its dimensions of one size are repeated, which is what broadcasting does by itself.
    """
    axis = node.axis(1)
    if axis != node.rank() - 1:
        node.refuse(f"axis {axis}: only the last one is supported")
    dims, bias = node.shape(), node.shape(node.x(1))
    if len(bias) != len(dims) or not all(
        same(a, b) or (isinstance(b, int) and b == 1) for a, b in zip(dims, bias, strict=True)
    ):
        node.refuse(f"a bias of shape {list(bias)} for data of shape {list(dims)}")
    return relax.op.nn.softmax(node.emit(relax.op.add(node.x(), node.x(1))), axis)


def bias_dropout(node: Node) -> list[relax.Expr]:
    """``BiasDropout`` at inference: x + bias + residual, and a mask of ones."""
    training = node.constant(4)
    if node.has(4) and (training is None or training.any()):
        node.refuse("training_mode must be a constant false: Motet runs inference only")
    result = _biased(node)
    if node.has(2):
        result = added(node, result, node.x(2))
    mask = [relax.op.ones(relax.ShapeExpr(node.shape()), "bool")] if node.outputs > 1 else []
    return [result, *mask]


def gated_add(node: Node) -> relax.Expr:
    """``GatedAdd``: x + y gate."""
    return added(node, node.x(), node.emit(relax.op.multiply(node.x(1), node.x(2))))


def scaled_silu(node: Node) -> relax.Expr:
    """``ScaledSiLU``: SiLU of x times a scale, given as an input or as ``alpha``."""
    scale = node.x(1) if node.has(1) else node.scalar(float(node.attr("alpha", 1.0)))
    if node.dtype(scale) != node.dtype():
        node.refuse(f"a scale of {node.dtype(scale)} for data of {node.dtype()}")
    return relax.op.nn.silu(node.emit(relax.op.multiply(node.x(), scale)))


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "Gelu": gelu,
    "BiasGelu": bias_gelu,
    "FastGelu": fast_gelu,
    "QuickGelu": quick_gelu,
    "BiasAdd": bias_add,
    "BiasSplitGelu": bias_split_gelu,
    "BiasSoftmax": bias_softmax,
    "BiasDropout": bias_dropout,
    "GatedAdd": gated_add,
    "ScaledSiLU": scaled_silu,
}
