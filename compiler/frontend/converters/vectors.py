"""Vectors with a scale each: the functions of ``motet.quantization``, and ONNX's blocks.

What vectors are worth is plain Relax of one form, which ``passes/vector_forms`` recognises::

    steps   (*rest, G)       float32; of two levels R.multiply(R.astype(scales), gamma)
    real    R.multiply(R.astype(integers), R.expand_dims(steps, -1))      (*rest, G, V)
    tensor  R.permute_dims(R.strided_slice(R.reshape(real)))              as ONNX has it

The slice is there where the last vector is filled with zeros, the transposition where vectors
lie along another axis than the last. Roundings are those of ONNX: two a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import constant
from motet.compiler.vector_calls import read_call
from motet.compiler.vector_functions import ONE_LEVEL, PAPER, TWO_LEVELS
from motet.targets.operators.vectors import Quantizing, quantize_vectors
from motet.targets.quantized.vectors import cut

from .quantization import array_of, cast, is_scalar, reshaped

_LENGTHS = range(4, 129)


def quantize(node: Node) -> list[relax.Expr]:
    """QuantizeVectors and its kin: reals, integers and steps."""
    found = read_call(node.op_type, node.attributes)
    if found is None:
        node.refuse("its attributes are not those of a type of integers")
    x, vector = node.x(), found.kind.vector
    axis = node.normal_axis(found.axis, node.rank(x))
    size = node.shape(x)[axis]
    if node.dtype(x) != "float32":
        node.refuse(f"an input of type {node.dtype(x)}: vectors are quantised from float32")
    if isinstance(size, int) and -size % vector != found.missing:
        node.refuse(
            f"its pads fill {found.missing} elements, but axis {axis} of {size} elements lacks "
            f"{-size % vector} to vectors of {vector}"
        )
    gamma = None if node.op_type == ONE_LEVEL else _one(node, node.x(1))
    what = Quantizing(axis, found.kind, found.paper)
    pair = node.emit(quantize_vectors(what, x, gamma))
    integers, scales = (node.emit(relax.TupleGetItem(pair, at)) for at in (0, 1))
    steps = scales
    if gamma is not None:
        steps = node.emit(relax.op.multiply(cast(node, scales, "float32"), gamma))
    return [
        reals(node, integers, steps, axis, size),
        whole(node, integers, axis, size),
        moved(node, steps, _back(axis, node.rank(steps))),
    ]


def _one(node: Node, gamma: relax.Expr) -> relax.Expr:
    if not is_scalar(node, gamma) or node.dtype(gamma) != "float32":
        node.refuse("gamma is one float32")
    return reshaped(node, gamma, [])


def reals(node: Node, integers: relax.Expr, steps: relax.Expr, axis: int, size: Any) -> relax.Expr:
    """What integers (*rest, G, V) are worth, as a tensor whose ``axis`` has ``size`` elements.

    steps: float32 (*rest, G).
    """
    wide = node.emit(relax.op.astype(integers, "float32"))
    each = node.emit(relax.op.expand_dims(steps, [-1]))
    return whole(node, node.emit(relax.op.multiply(wide, each)), axis, size)


def whole(node: Node, vectors: relax.Expr, axis: int, size: Any) -> relax.Expr:
    """Vectors (*rest, G, V) as a tensor whose ``axis`` has ``size`` elements."""
    *rest, count, length = node.shape(vectors)
    flat = node.emit(relax.op.reshape(vectors, relax.ShapeExpr([*rest, count * length])))
    last = len(rest)
    if not isinstance(size, int) or size % length:
        flat = node.emit(relax.op.strided_slice(flat, [last], [0], [size], [1]))
    return moved(node, flat, _back(axis, last + 1))


def moved(node: Node, x: relax.Expr, order: Sequence[int]) -> relax.Expr:
    """``x`` with its axes in ``order``; a constant stays one."""
    if list(order) == sorted(order):
        return x
    known = array_of(x)
    if known is not None:
        return constant(np.ascontiguousarray(known.transpose(order)))
    return node.emit(relax.op.permute_dims(x, list(order)))


def _back(axis: int, rank: int) -> list[int]:
    """The order of axes that brings the last one to ``axis``."""
    order = list(range(rank - 1))
    order.insert(axis, rank - 1)
    return order


def _away(axis: int, rank: int) -> list[int]:
    """The order of axes that brings ``axis`` to the end."""
    return [*(each for each in range(rank) if each != axis), axis]


def blocks(
    node: Node, x: relax.Expr, scale: relax.Expr, zero: relax.Expr | None, axis: int, block: int
) -> relax.Expr | None:
    """A blocked DequantizeLinear to float32 as vectors; None for what no vectors hold.

    That is integers of 8 bits or fewer, without zero points or with constant ones that leave 8
    bits, in blocks of a vector's length.
    """
    if block not in _LENGTHS or node.dtype(x) not in ("int8", "uint8"):
        return None
    size = node.shape(x)[axis]
    centred = _centred(x, zero, axis, block)
    if not isinstance(size, int) or centred is None or node.dtype(scale) != "float32":
        return None
    steps = moved(node, scale, _away(axis, node.rank(x)))
    return reals(node, _cut(node, centred, axis, size, block), steps, axis, size)


def _centred(x: relax.Expr, zero: relax.Expr | None, axis: int, block: int) -> relax.Expr | None:
    """``x`` less its zero points in 8 bits; None where that is not known."""
    held, shift = array_of(x), None if zero is None else array_of(zero)
    if zero is None or (shift is not None and not shift.any()):
        return x
    if held is None or shift is None:
        return None
    spread = np.repeat(shift, block, axis).take(range(held.shape[axis]), axis)
    wide = held.astype(np.int16) - spread.astype(np.int16)
    fits = wide.min(initial=0) >= -128 and wide.max(initial=0) <= 127
    return constant(wide.astype(np.int8)) if fits else None


def _cut(node: Node, x: relax.Expr, axis: int, size: int, block: int) -> relax.Expr:
    """``x`` in vectors: (*rest, G, V)."""
    known = array_of(x)
    if known is not None:
        return constant(cut(known, axis, block))
    rank, missing = node.rank(x), -size % block
    last = moved(node, x, _away(axis, rank))
    if missing:
        zeros = relax.op.zeros(relax.ShapeExpr([*node.shape(last)[:-1], missing]), node.dtype(x))
        last = node.emit(relax.op.concat([last, node.emit(zeros)], rank - 1))
    shape = [*node.shape(last)[:-1], (size + missing) // block, block]
    return node.emit(relax.op.reshape(last, relax.ShapeExpr(shape)))


CONVERTERS: dict[str, Callable[[Node], Any]] = dict.fromkeys(
    (ONE_LEVEL, TWO_LEVELS, PAPER), quantize
)
