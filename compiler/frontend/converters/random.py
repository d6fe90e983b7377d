"""Random numbers that are the same in every run: a hash of their places.

ONNX leaves the generator open. Here element ``i`` of a node is a hash of ``i`` and of the
node's seed (of its name where it states none), so that a bundle needs no state, one input
gives one output, and two nodes give unrelated numbers. The hash is the 32-bit finaliser
of C. Wellons, "Prospecting for Hash Functions" (2018), of lowest measured bias.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.shape_data import product
from motet.compiler.frontend.types import numpy_name
from motet.compiler.frontend.values import Dim, constant, counted, shape_value
from motet.runtime.element_types import carrier_dtype

_STEPS = ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB))
_LAST_SHIFT = 14


def _word(value: int) -> relax.Expr:
    return constant(np.uint32(value))


def _key(node: Node, stream: int) -> int:
    """The seed of one stream of a node's numbers."""
    seed = node.attr("seed")
    text = node.name if seed is None else f"seed {float(seed)!r}"
    return zlib.crc32(f"{text} {stream}".encode())


def _uniform(node: Node, dims: Sequence[Dim], stream: int = 0) -> relax.Expr:
    """float32 in [0, 1), multiples of 2^-24, of shape ``dims``."""
    places = node.emit(counted(product(list(dims))))
    x = node.emit(relax.op.astype(places, "uint32"))
    x = node.emit(relax.op.bitwise_xor(x, _word(_key(node, stream))))
    for shift, factor in _STEPS:
        x = relax.op.bitwise_xor(x, relax.op.right_shift(x, _word(shift)))
        x = node.emit(relax.op.multiply(x, _word(factor)))
    x = node.emit(relax.op.bitwise_xor(x, relax.op.right_shift(x, _word(_LAST_SHIFT))))
    top = relax.op.astype(relax.op.right_shift(x, _word(8)), "float32")
    unit = relax.op.multiply(top, constant(np.float32(2.0**-24)))
    return node.emit(relax.op.reshape(unit, relax.ShapeExpr(list(dims))))


def _normal(node: Node, dims: Sequence[Dim]) -> relax.Expr:
    """float32 of mean 0 and variance 1, by the transformation of Box and Muller (1958)."""
    first, second = _uniform(node, dims, 0), _uniform(node, dims, 1)
    log = relax.op.log(relax.op.subtract(constant(np.float32(1)), first))
    radius = relax.op.sqrt(relax.op.multiply(log, constant(np.float32(-2))))
    angle = relax.op.multiply(second, constant(np.float32(2 * math.pi)))
    return node.emit(relax.op.multiply(radius, relax.op.cos(angle)))


def _dims(node: Node) -> list[Dim]:
    if node.op_type.endswith("Like") or node.op_type == "Bernoulli":
        return list(node.shape())
    return [int(d) for d in node.attr("shape")]


def _dtype(node: Node) -> str:
    given = node.attr("dtype")
    if given is None:
        return node.dtype() if node.op_type.endswith("Like") else "float32"
    return carrier_dtype(numpy_name(int(given)))


def random_uniform(node: Node) -> relax.Expr:
    """RandomUniform and RandomUniformLike: between ``low`` and ``high``."""
    low, high = float(node.attr("low", 0.0)), float(node.attr("high", 1.0))
    unit = _uniform(node, _dims(node))
    spread = relax.op.multiply(unit, constant(np.float32(high - low)))
    return relax.op.astype(relax.op.add(spread, constant(np.float32(low))), _dtype(node))


def random_normal(node: Node) -> relax.Expr:
    """RandomNormal and RandomNormalLike: of ``mean`` and standard deviation ``scale``."""
    mean, scale = float(node.attr("mean", 0.0)), float(node.attr("scale", 1.0))
    spread = relax.op.multiply(_normal(node, _dims(node)), constant(np.float32(scale)))
    return relax.op.astype(relax.op.add(spread, constant(np.float32(mean))), _dtype(node))


def bernoulli(node: Node) -> relax.Expr:
    """Bernoulli: 1 with the probability that input 0 holds, else 0."""
    given = node.attr("dtype")
    dtype = node.dtype() if given is None else _dtype(node)
    hit = relax.op.less(_uniform(node, _dims(node)), relax.op.astype(node.x(), "float32"))
    return relax.op.astype(hit, dtype)


def multinomial(node: Node) -> relax.Expr:
    """Multinomial: ``sample_size`` classes per row of unnormalised log-probabilities.

    A class is drawn where the cumulated probability passes a uniform number.
    """
    batch, classes = node.shape()
    draws = int(node.attr("sample_size", 1))
    chances = node.emit(relax.op.nn.softmax(relax.op.astype(node.x(), "float32"), -1))
    passed = node.emit(relax.op.expand_dims(relax.op.cumsum(chances, 1), 1))
    drawn = node.emit(relax.op.expand_dims(_uniform(node, [batch, draws]), 2))
    below = relax.op.astype(relax.op.less_equal(passed, drawn), "int32")
    last = relax.op.astype(node.tensor(shape_value([classes], scalar=True)), "int32")
    index = relax.op.minimum(relax.op.sum(below, 2), relax.op.subtract(last, constant(np.int32(1))))
    dtype = _dtype(node) if node.attr("dtype") is not None else "int32"
    return relax.op.astype(index, dtype)


CONVERTERS: dict[str, Callable[[Node], Any]] = {
    "RandomUniform": random_uniform,
    "RandomUniformLike": random_uniform,
    "RandomNormal": random_normal,
    "RandomNormalLike": random_normal,
    "Bernoulli": bernoulli,
    "Multinomial": multinomial,
}
