"""Activations of the ``com.microsoft`` domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import relax

from motet.compiler.frontend.node import Node


def gelu(node: Node) -> relax.Expr:
    """``Gelu``: x * (1 + erf(x / sqrt 2)) / 2."""
    return relax.op.nn.gelu(node.x())


def bias_gelu(node: Node) -> relax.Expr:
    """``BiasGelu``: Gelu of input 0 plus a bias (input 1) of its last dimension."""
    return relax.op.nn.gelu(node.emit(relax.op.add(node.x(0), node.x(1))))


CONVERTERS: dict[str, Callable[[Node], Any]] = {"Gelu": gelu, "BiasGelu": bias_gelu}
