"""Element-wise converters over random shapes, types and attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper
from random_uses import Draw, Use, check_uses, drawn, seeds

FLOATS = ("float32", "float64")
NUMBERS = (*FLOATS, "int32", "int64")
INTEGERS = ("int8", "uint8", "int16", "int32", "int64")


def clips(draw: Draw) -> Use:
    """Both, one or no bound; crossed too; constant or at run time."""
    dtype = draw.of(*NUMBERS, "int8", "uint8")
    low = 0 if dtype == "uint8" else -3
    x = draw.tensor(draw.shape(), dtype, low, 3)
    order, feeds, constants = ["x"], {"x": x}, {}
    for name in ("lo", "hi"):
        if draw.flag():
            bound = draw.tensor((), dtype, low, 3)
            (constants if draw.flag() else feeds)[name] = bound
            order.append(name)
        else:
            order.append("")
    return Use("Clip", feeds, constants, order=order)


def variadic(draw: Draw) -> Use:
    op = draw.of("Min", "Max", "Sum", "Mean")
    dtype = draw.of(*(NUMBERS if op in ("Min", "Max") else FLOATS))
    dims = draw.broadcasting(draw.int(1, 4))
    feeds = {f"x{i}": draw.tensor(d, dtype) for i, d in enumerate(dims)}
    if op != "Mean":
        return Use(op, feeds)
    # onnx's evaluator adds in place, and so does not broadcast.
    return Use(op, feeds, want=[sum(feeds.values()) / np.array(len(feeds), dtype)])


def powers(draw: Draw) -> Use:
    a, b = draw.broadcasting(2)
    base = draw.tensor(a, draw.of(*FLOATS), 0.1, 3)
    if draw.flag():
        return Use("Pow", {"x": base, "e": draw.tensor(b, "float32", -2, 2)})
    number = draw.of(-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
    return Use("Pow", {"x": base}, {"e": np.array(number, base.dtype)})


def integer_powers(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(), draw.of("int32", "int64"), -3, 3)
    return Use("Pow", {"x": x}, {"e": np.array(draw.int(1, 8), np.int64)})


def nonzero(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.where(array == 0, array.dtype.type(1), array)


def divisions(draw: Draw) -> Use:
    """Mod of integers (sign of the divisor, or of the dividend), of floats; Div."""
    op, (a, b) = draw.of("Mod", "Div"), draw.broadcasting(2)
    dtype = draw.of(*INTEGERS, *FLOATS)
    low = 0 if dtype == "uint8" else -9
    x, y = draw.tensor(a, dtype, low, 9), nonzero(draw.tensor(b, dtype, low, 9))
    if op == "Div":
        return Use(op, {"x": x, "y": y})
    fmod = 1 if dtype in FLOATS else draw.int(0, 1)
    return Use(op, {"x": x, "y": y}, attributes={"fmod": fmod})


def shifts(draw: Draw) -> Use:
    """Also by the width of the type and more, which leaves nothing."""
    dtype, (a, b) = (
        draw.of("uint8", "uint16", "uint32", "uint64"),
        draw.broadcasting(2),
    )
    bits = np.iinfo(dtype).bits
    x, n = draw.tensor(a, dtype, 0, 255), draw.tensor(b, dtype, 0, bits + 3)
    left = draw.flag()
    inside, safe = n < bits, np.minimum(n, bits - 1).astype(dtype)
    moved = (x << safe) if left else (x >> safe)
    want = np.where(inside, moved, 0).astype(dtype)
    direction = {"direction": "LEFT" if left else "RIGHT"}
    return Use("BitShift", {"x": x, "n": n}, attributes=direction, want=[want])


def infinities(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(), draw.of(*FLOATS))
    special = np.array([np.inf, -np.inf, np.nan, 0], x.dtype)
    picks = draw.tensor(x.shape, "int64", 0, 5)
    x = np.where(picks < 4, special[np.minimum(picks, 3)], x)
    flags = {f"detect_{sign}": draw.int(0, 1) for sign in ("positive", "negative")}
    return Use("IsInf", {"x": x}, attributes=flags)


def equals(draw: Draw) -> Use:
    dtype, (a, b) = draw.of("bool", *NUMBERS), draw.broadcasting(2)
    x, y = (draw.tensor(d, dtype, -1, 1).round() for d in (a, b))
    return Use("Equal", {"x": x.astype(dtype), "y": y.astype(dtype)})


def casts(draw: Draw) -> Use:
    """Between types in whose range the values lie; floats lose their fraction."""
    names = ("bool", "uint8", "int8", "int32", "int64", "float16", "float32", "float64")
    source, target = draw.of(*names), draw.of(*names)
    low = 0 if "uint8" in (source, target) else -100
    x = draw.tensor(draw.shape(), source, low, 100)
    if draw.flag():
        return Use("CastLike", {"x": x, "y": draw.tensor((2,), target, 0, 1)})
    to = helper.np_dtype_to_tensor_dtype(np.dtype(target))
    return Use("Cast", {"x": x}, attributes={"to": to})


def activations(draw: Draw) -> Use:
    """What bends at zero, far from zero too."""
    names = {
        "Elu": ("alpha",), "Selu": ("alpha", "gamma"), "ThresholdedRelu": ("alpha",), "Celu": (),
        "LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Shrink": ("bias", "lambd"),
        "Mish": (), "HardSwish": (), "Softplus": (), "Softsign": (), "Reciprocal": (),
    }  # fmt: skip
    op = draw.of(*sorted(names))
    given = {n: draw.of(0.25, 0.5, 1.5) for n in names[op] if draw.flag()}
    x = draw.tensor(draw.shape(), "float32", -40, 40)
    return Use(op, {"x": x}, attributes=given)


def plain(draw: Draw) -> Use:
    op = draw.of("Identity", "Dropout")
    x = draw.tensor(draw.shape())
    return Use(op, {"x": x}, outputs=2 if op == "Dropout" and draw.flag() else 1)


@seeds(3)
def test_arithmetic(seed: int) -> None:
    check_uses(drawn(seed, 2, clips, variadic, powers, integer_powers, divisions, shifts))


@seeds(3)
def test_functions(seed: int) -> None:
    check_uses(drawn(seed, 2, infinities, equals, casts, activations, plain, activations), opset=20)


def newer(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(), "float32", -9, 9)
    if draw.flag():
        return Use("Gelu", {"x": x}, attributes={"approximate": draw.of("none", "tanh")})
    alpha = {"alpha": draw.of(0.5, 1.0, 1.702)}
    return Use("Swish", {"x": x}, attributes=alpha)


@seeds(2)
def test_functions_of_opset_24(seed: int) -> None:
    check_uses(drawn(seed, 6, newer), opset=24)


def test_cast_to_half_rounds_to_even() -> None:
    x = np.array([2049, 2051, 65519, 65520, 1e-8, -0.0], np.float32)
    to = {"to": TensorProto.FLOAT16}
    with np.errstate(over="ignore"):
        want = x.astype(np.float16)
    check_uses([Use("Cast", {"x": x}, attributes=to, want=[want])], rtol=0, atol=0)
