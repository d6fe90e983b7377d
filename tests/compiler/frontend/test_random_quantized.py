"""Quantised operators over random scales, zero points and shapes.

A value in the middle between two steps may go to either, so results may differ by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from random_uses import Draw, Use, check_uses, drawn, seeds

MICROSOFT = "com.microsoft"


def of_microsoft(dtype: str) -> dict[str, Any]:
    """Of onnxruntime's domain, with the output's type, which onnx does not infer."""
    return {"domain": MICROSOFT, "makes": [dtype]}


def scale(draw: Draw, dims: tuple[int, ...] = ()) -> Any:
    return draw.tensor(dims, "float32", 0.02, 0.2)


def bytes_of(draw: Draw, dims: Any, dtype: str) -> Any:
    limits = np.iinfo(dtype)
    return draw.tensor(dims, dtype, limits.min, limits.max)


def zero(draw: Draw, dtype: str, dims: tuple[int, ...] = ()) -> Any:
    return draw.tensor(dims, dtype, 100 if dtype == "uint8" else -9, 140 if dtype == "uint8" else 9)


def quantize(draw: Draw) -> Use:
    """By one scale, or one for every index of an axis."""
    x, dtype = draw.tensor(draw.shape(1, 4), "float32", -9, 9), draw.of("uint8", "int8")
    axis = draw.axis(x.ndim)
    dims = (x.shape[axis],) if draw.flag() else ()
    constants = {"s": scale(draw, dims), "z": zero(draw, dtype, dims)}
    return Use("QuantizeLinear", {"x": x}, constants, {"axis": axis} if dims else {})


def dequantize(draw: Draw) -> Use:
    dtype = draw.of("uint8", "int8")
    x = bytes_of(draw, draw.shape(1, 4), dtype)
    axis = draw.axis(x.ndim)
    dims = (x.shape[axis],) if draw.flag() else ()
    constants = {"s": scale(draw, dims), "z": zero(draw, dtype, dims)}
    return Use("DequantizeLinear", {"x": x}, constants, {"axis": axis} if dims else {})


def dynamic(draw: Draw) -> Use:
    return Use("DynamicQuantizeLinear", {"x": draw.tensor(draw.shape(1, 3))}, outputs=3)


def integer_product(draw: Draw) -> Use:
    m, k, n = (draw.int(1, 9) for _ in "mkn")
    left = draw.of("uint8", "int8")
    feeds, constants = {"a": bytes_of(draw, (m, k), left)}, {"b": bytes_of(draw, (k, n), "int8")}
    if draw.flag():
        constants |= {"za": zero(draw, left), "zb": zero(draw, "int8")}
    return Use("MatMulInteger", feeds, constants)


def product(draw: Draw) -> Use:
    m, k, n = (draw.int(1, 9) for _ in "mkn")
    dtype = draw.of("uint8", "int8")
    feeds = {"a": bytes_of(draw, (m, k), dtype)}
    constants = {
        "sa": scale(draw), "za": zero(draw, dtype), "b": bytes_of(draw, (k, n), "int8"),
        "sb": scale(draw), "zb": zero(draw, "int8"), "sy": scale(draw) * 20,
        "zy": zero(draw, dtype),
    }  # fmt: skip
    return Use("QLinearMatMul", feeds, constants)


def convolution(draw: Draw) -> Use:
    dtype, groups = draw.of("uint8", "int8"), draw.of(1, 1, 2)
    ins, outs = groups * draw.int(1, 3), groups * draw.int(1, 3)
    each = (outs,) if draw.flag() else ()
    constants = {
        "sx": scale(draw), "zx": zero(draw, dtype),
        "w": bytes_of(draw, (outs, ins // groups, 3, 3), "int8"),
        "sw": scale(draw, each), "zw": np.zeros(each, "int8"),
        "sy": scale(draw) * 30, "zy": zero(draw, dtype),
    }  # fmt: skip
    if draw.flag():
        constants["b"] = draw.tensor((outs,), "int32", -999, 999)
    given = {"group": groups, "pads": [draw.int(0, 1) for _ in range(4)],
             "strides": [draw.int(1, 2) for _ in range(2)]}  # fmt: skip
    return Use("QLinearConv", {"x": bytes_of(draw, (1, ins, 6, 7), dtype)}, constants, given)


def arithmetic(draw: Draw) -> Use:
    """QLinearAdd and QLinearMul, which broadcast."""
    dtype, (a, b) = draw.of("uint8", "int8"), draw.broadcasting(2)
    feeds = {"a": bytes_of(draw, a, dtype), "b": bytes_of(draw, b, dtype)}
    constants = {f"{kind}{x}": make(draw) if kind == "s" else zero(draw, dtype)
                 for x in "aby" for kind, make in (("s", scale), ("z", scale))}  # fmt: skip
    constants["sy"] = constants["sy"] * 5
    order = ["a", "sa", "za", "b", "sb", "zb", "sy", "zy"]
    return Use(
        draw.of("QLinearAdd", "QLinearMul"),
        feeds,
        constants,
        order=order,
        domain=MICROSOFT,
        makes=[dtype],
    )


def activation(draw: Draw) -> Use:
    op, dtype = draw.of("QLinearSigmoid", "QLinearLeakyRelu"), draw.of("uint8", "int8")
    constants = {
        "sx": scale(draw), "zx": zero(draw, dtype), "sy": scale(draw), "zy": zero(draw, dtype),
    }  # fmt: skip
    given = {"alpha": 0.25} if op == "QLinearLeakyRelu" else {}
    x = bytes_of(draw, draw.shape(1, 4), dtype)
    return Use(op, {"x": x}, constants, given, **of_microsoft(dtype))


def mean_of_channels(draw: Draw) -> Use:
    dtype = draw.of("uint8", "int8")
    constants = {
        "sx": scale(draw), "zx": zero(draw, dtype), "sy": scale(draw), "zy": zero(draw, dtype),
    }  # fmt: skip
    x = bytes_of(draw, (draw.int(1, 2), draw.int(1, 5), draw.int(2, 5), draw.int(2, 5)), dtype)
    given = {"channels_last": 0}
    return Use(
        "QLinearGlobalAveragePool", {"x": x}, constants, given, domain=MICROSOFT, makes=[dtype]
    )


def joined(draw: Draw) -> Use:
    dtype, dims = draw.of("uint8", "int8"), list(draw.shape(1, 3))
    axis = draw.int(0, len(dims) - 1)
    feeds, constants = {}, {"sy": scale(draw), "zy": zero(draw, dtype)}
    order = ["sy", "zy"]
    for i in range(draw.int(1, 3)):
        dims[axis] = draw.int(1, 4)
        feeds[f"x{i}"] = bytes_of(draw, dims, dtype)
        constants |= {f"s{i}": scale(draw), f"z{i}": zero(draw, dtype)}
        order += [f"x{i}", f"s{i}", f"z{i}"]
    given = {"axis": axis}
    return Use(
        "QLinearConcat", feeds, constants, given, order=order, domain=MICROSOFT, makes=[dtype]
    )


@seeds(3)
def test_quantised_operators(seed: int) -> None:
    # Without VNNI onnxruntime saturates sums of products of two bytes at 16 bits.
    uses = drawn(seed, 2, quantize, dequantize, product, convolution)
    check_uses(uses, opset=21, rtol=1e-6, atol=1)
    check_uses(drawn(seed, 2, integer_product), rtol=0, atol=0)


@seeds(1)
def test_dynamic_quantisation(seed: int) -> None:
    check_uses(drawn(seed, 3, dynamic), truth="onnxruntime", rtol=1e-6, atol=1)


@seeds(3)
def test_quantised_operators_of_microsoft(seed: int) -> None:
    uses = drawn(seed, 2, arithmetic, activation, mean_of_channels, joined)
    check_uses(uses, truth="onnxruntime", rtol=0, atol=1)
