"""Converters that no family's random test has: old names, fills, filters, integer convolutions."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from random_uses import Draw, Use, check_uses, drawn, int64, seeds


def fills(draw: Draw) -> Use:
    dtype = draw.of("float32", "int64", "bool", "uint8", "float64")
    value = draw.tensor((1,), dtype, 0, 5)
    shape = int64(*draw.shape(0, 3)) if draw.flag() else int64(0, 3)
    attributes = {"value": numpy_helper.from_array(value)} if draw.flag() else {}
    return Use("ConstantOfShape", {}, {"shape": shape}, attributes)


def enlargements(draw: Draw) -> Use:
    shape = (draw.int(1, 2), draw.int(1, 3), draw.int(2, 5), draw.int(2, 5))
    scales = np.array([1, 1, draw.of(1.0, 2.0, 3.0), draw.of(1.0, 2.0)], np.float32)
    mode = draw.of("nearest", "linear")
    return Use("Upsample", {"x": draw.tensor(shape)}, {"scales": scales}, {"mode": mode})


def old_scatters(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(1, 3, 5))
    axis = draw.axis(x.ndim)
    counts = [draw.int(1, d) for d in x.shape]
    places = np.stack(  # no place twice along the axis
        [draw.random.permutation(x.shape[axis])[: counts[axis]] for _ in range(64)]
    )
    lead = [c for a, c in enumerate(counts) if a != axis % x.ndim]
    rows = places[: int(np.prod(lead))].reshape(*lead, counts[axis])
    indices = np.moveaxis(rows, -1, axis % x.ndim)
    feeds = {"x": x, "i": indices, "u": draw.tensor(counts)}
    return Use("Scatter", feeds, {}, {"axis": axis})


def filters(draw: Draw) -> Use:
    constants = {
        "bands": np.array(draw.int(1, 12)),
        "length": np.array(draw.int(16, 64)),
        "rate": np.array(draw.of(8000, 16000)),
        "low": np.array(draw.of(0.0, 100.0), np.float32),
        "high": np.array(draw.of(2000.0, 4000.0), np.float32),
    }
    return Use("MelWeightMatrix", {}, constants)


def integer_convolutions(draw: Draw) -> Use:
    groups, per_group = draw.int(1, 2), draw.int(1, 3)
    kernel = [draw.int(1, 3) for _ in "hw"]
    feeds = {"x": draw.tensor((draw.int(1, 2), groups * per_group, 6, 7), "uint8", 0, 255)}
    constants = {"w": draw.tensor((groups * 2, per_group, *kernel), "uint8", 0, 255)}
    order = ["x", "w"]
    if draw.flag():
        constants["xz"] = draw.tensor((), "uint8", 0, 255)
        order.append("xz")
    attributes = {
        "group": groups, "kernel_shape": kernel, "strides": [draw.int(1, 2) for _ in "hw"],
        "pads": [draw.int(0, 1) for _ in range(4)], "dilations": [draw.int(1, 2) for _ in "hw"],
    }  # fmt: skip
    return Use("ConvInteger", feeds, constants, attributes, order=order)


def bits(draw: Draw) -> Use:
    source, target = draw.of(("float32", "INT32"), ("int64", "DOUBLE"), ("uint16", "FLOAT16"))
    to = int(getattr(TensorProto, target))
    x = draw.tensor(draw.shape(), source, 0, 100)
    want = x.view(helper.tensor_dtype_to_np_dtype(to))
    return Use("BitCast", {"x": x}, {}, {"to": to}, want=[want])


def distinct(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(1, 3, 4), draw.of("float32", "int64"), 0, 2)
    if x.dtype == np.float32:
        x = np.round(x)
    attributes = {"sorted": int(draw.flag())}
    if draw.flag():
        attributes["axis"] = draw.axis(x.ndim)
    return Use("Unique", {"x": x}, {}, attributes, outputs=4)


@seeds(1)
def test_fills_filters_and_bits(seed: int) -> None:
    check_uses(drawn(seed, 6, fills, filters))
    check_uses(drawn(seed, 4, bits), opset=26)


@seeds(1)
def test_old_names(seed: int) -> None:
    check_uses(drawn(seed, 5, enlargements), opset=9, truth="onnxruntime")
    check_uses(drawn(seed, 5, old_scatters), opset=10, truth="onnxruntime")


@seeds(1)
def test_integer_convolutions(seed: int) -> None:
    check_uses(drawn(seed, 5, integer_convolutions), truth="onnxruntime")


@seeds(1)
def test_distinct_elements_and_slices(seed: int) -> None:
    check_uses(drawn(seed, 6, distinct), truth="onnxruntime")
