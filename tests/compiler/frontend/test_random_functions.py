"""Functions that TVM's own converters serve, selections and lookups, over random inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from random_uses import Draw, Use, check_uses, drawn, int64, seeds

DOMAINS = {
    "Abs": (-9, 9), "Neg": (-9, 9), "Sign": (-2, 2), "Floor": (-9, 9), "Ceil": (-9, 9),
    "Round": (-9, 9), "Exp": (-9, 9), "Log": (0.01, 99), "Sqrt": (0, 99), "Sin": (-9, 9),
    "Cos": (-9, 9), "Tan": (-1.4, 1.4), "Asin": (-1, 1), "Acos": (-1, 1), "Atan": (-9, 9),
    "Sinh": (-5, 5), "Cosh": (-5, 5), "Tanh": (-9, 9), "Asinh": (-9, 9), "Acosh": (1, 9),
    "Atanh": (-0.99, 0.99), "Erf": (-4, 4), "Sigmoid": (-40, 40), "Relu": (-9, 9),
    "Softplus": (-40, 40), "Softsign": (-9, 9),
}  # fmt: skip


def function(draw: Draw) -> Use:
    op = draw.of(*DOMAINS)
    return Use(op, {"x": draw.tensor(draw.shape(), "float32", *DOMAINS[op])})


def halves(draw: Draw) -> Use:
    """Round half to even."""
    x = draw.tensor(draw.shape(), "int64", -9, 9) / np.float32(2)
    return Use("Round", {"x": x.astype("float32")})


def comparison(draw: Draw) -> Use:
    op = draw.of("Less", "LessOrEqual", "Greater", "GreaterOrEqual")
    dtype, dims = draw.of("float32", "float64", "int32", "int64"), draw.broadcasting(2)
    x, y = (draw.tensor(d, dtype, -2, 2).round().astype(dtype) for d in dims)
    return Use(op, {"x": x, "y": y})


def logic(draw: Draw) -> Use:
    op = draw.of("And", "Or", "Xor", "Not")
    feeds = {f"x{i}": draw.tensor(d, "bool") for i, d in enumerate(draw.broadcasting(2))}
    return Use(op, dict(list(feeds.items())[:1]) if op == "Not" else feeds)


def bits(draw: Draw) -> Use:
    op, dtype = (
        draw.of("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot"),
        draw.of("int32", "int64", "uint8"),
    )
    low = 0 if dtype == "uint8" else -99
    feeds = {f"x{i}": draw.tensor(d, dtype, low, 99) for i, d in enumerate(draw.broadcasting(2))}
    return Use(op, dict(list(feeds.items())[:1]) if op == "BitwiseNot" else feeds)


def choice(draw: Draw) -> Use:
    c, a, b = draw.broadcasting(3)
    dtype = draw.of("float32", "int64", "bool")
    return Use("Where", {"c": draw.tensor(c, "bool"), "a": draw.tensor(a, dtype),
                         "b": draw.tensor(b, dtype)})  # fmt: skip


def slopes(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(1, 4))
    dims = [d if draw.flag() else 1 for d in x.shape][draw.int(0, x.ndim - 1) :]
    slope = draw.tensor(dims)
    return (
        Use("PRelu", {"x": x}, {"s": slope}) if draw.flag() else Use("PRelu", {"x": x, "s": slope})
    )


def not_a_number(draw: Draw) -> Use:
    x = draw.tensor(draw.shape())
    return Use("IsNaN", {"x": np.where(draw.tensor(x.shape, "bool"), np.float32(np.nan), x)})


def nonzero(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(1, 3), draw.of("float32", "int64", "bool"), -1, 1)
    return Use("NonZero", {"x": np.where(draw.tensor(x.shape, "bool"), x, x.dtype.type(0))})


def compress(draw: Draw) -> Use:
    """Along an axis, or of all elements in a row; a condition that is too short."""
    x = draw.tensor(draw.shape(1, 3))
    axis = draw.axis(x.ndim) if draw.flag() else None
    extent = x.size if axis is None else x.shape[axis]
    c = draw.tensor((draw.int(1, extent),), "bool")
    given = {} if axis is None else {"axis": axis}
    return Use("Compress", {"x": x, "c": c}, attributes=given)


def reversed_sequences(draw: Draw) -> Use:
    steps, batch = draw.int(1, 5), draw.int(1, 4)
    time = draw.int(0, 1)
    dims = (
        (steps, batch, *draw.shape(0, 1, 3)) if time == 0 else (batch, steps, *draw.shape(0, 1, 3))
    )
    lengths = draw.tensor((batch,), "int64", 1, steps)
    given = {"time_axis": time, "batch_axis": 1 - time}
    return Use("ReverseSequence", {"x": draw.tensor(dims), "n": lengths}, attributes=given)


def grid(draw: Draw) -> Use:
    n = draw.int(1, 2)
    size = int64(n, 2, draw.int(2, 4), draw.int(2, 4))
    given = {"align_corners": draw.int(0, 1)}
    return Use("AffineGrid", {"t": draw.tensor((n, 2, 3))}, {"s": size}, given)


def ranges(draw: Draw) -> Use:
    start, step = draw.int(-9, 9), draw.of(-3, -1, 1, 2, 5)
    limits: dict[str, Any] = {
        "a": np.array(start), "b": np.array(start + step * draw.int(0, 4)), "c": np.array(step),
    }  # fmt: skip
    return Use("Range", {}, limits)


@seeds(3)
def test_functions(seed: int) -> None:
    check_uses([*drawn(seed, 9, function), *drawn(seed, 1, halves, not_a_number)], rtol=1e-4)


@seeds(2)
def test_choices(seed: int) -> None:
    check_uses(drawn(seed, 2, comparison, logic, bits, choice, slopes))


@seeds(2)
def test_selections(seed: int) -> None:
    check_uses(drawn(seed, 2, nonzero, compress, reversed_sequences))


@seeds(2)
def test_made_of_sizes(seed: int) -> None:
    check_uses(drawn(seed, 2, grid, ranges), opset=20)
