"""Cast, CastLike and BitCast between all element types but strings.

A narrow type (``runtime.element_types``) is made from float32 by ``motet.round_to``, or, an
integer, from the low bits of an int32; wider floats become float32 first, as in onnx's
reference and onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from tvm import relax

from motet.compiler.frontend.fold import fold
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.types import numpy_name, onnx_dtype
from motet.compiler.frontend.values import Constant, Value
from motet.runtime.element_types import NARROW, stored_dtype
from motet.targets.operators.narrow import decode, encode, reinterpret, round_to

_E8M0 = "float8_e8m0fnu"
_HOW = ("saturate", "round_mode")


def cast_to(node: Node, x: relax.Expr, source: str, target: str) -> relax.Expr:
    """``x`` of element type ``source`` (in its carrier) as ``target`` (in its own).

    The node's attributes ``saturate`` and ``round_mode`` decide for float8.
    """
    if source == target:
        return x
    if target not in NARROW:
        return _plain(node, x, target)
    if not NARROW[target].is_float:
        whole = node.emit(_plain(node, x, "int32"))
        return decode(node.emit(_plain(node, whole, "uint8")), target)
    saturate = target.startswith("float8") and bool(node.attr("saturate", 1))
    mode = str(node.attr("round_mode", "up")) if target == _E8M0 else "even"
    if mode not in ("even", "up", "down", "nearest"):
        node.refuse(f"round_mode '{mode}'")
    return round_to(node.emit(_plain(node, x, "float32")), target, saturate, mode)


def _plain(node: Node, x: relax.Expr, dtype: str) -> relax.Expr:
    source = node.dtype(x)
    if source == dtype:
        return x
    if dtype == "bool":
        return relax.op.not_equal(x, node.scalar(0, source))
    return relax.op.astype(x, dtype)


def _target(node: Node) -> str:
    to = node.attr("to")
    if to == onnx.TensorProto.STRING:
        node.refuse("casts to strings are not supported")
    return numpy_name(int(to))


def cast(node: Node) -> relax.Expr:
    """Cast; strings are refused."""
    return cast_to(node, node.x(), node.element_type(), _target(node))


def cast_like(node: Node) -> Value | relax.Expr:
    """CastLike; of what is known at once, since function bodies cast their constants so."""
    target, value = node.element_type(1), node.given[0]
    if isinstance(value, Constant):
        how = {name: node.attr(name) for name in _HOW if node.attr(name) is not None}
        like = onnx.helper.make_node("Cast", ["x"], ["y"], to=onnx_dtype(target), **how)
        known = fold(like, [value.array], node.opset)
        if known is not None:
            return Constant(known[0])
    return cast_to(node, node.x(), node.element_type(), target)


def bit_cast(node: Node) -> relax.Expr:
    """BitCast: the same bits as another type of the same width."""
    x, source, target = node.x(), node.element_type(), _target(node)
    bits = node.emit(encode(x, source)) if source in NARROW else x
    stored = stored_dtype(target)
    if node.dtype(bits) != stored:
        bits = node.emit(reinterpret(bits, stored))
    return decode(bits, target) if target in NARROW else bits


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "Cast": cast,
    "CastLike": cast_like,
    "BitCast": bit_cast,
}
