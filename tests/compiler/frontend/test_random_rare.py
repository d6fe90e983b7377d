"""Rarely written operators at random: sampling, unpooling, running products, random numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from frontend_models import model, saved, value
from onnx import TensorProto, helper
from random_uses import Draw, Use, check_uses, drawn, int64, seeds

import motet
from motet.runtime.errors import UnsupportedOperatorError


def deform_convs(draw: Draw) -> Use:
    groups, shifts = draw.int(1, 2), draw.int(1, 2)
    channels = groups * shifts * draw.int(1, 2)
    kernel, strides = [draw.int(1, 3) for _ in "hw"], [draw.int(1, 2) for _ in "hw"]
    dilations, pads = [draw.int(1, 2) for _ in "hw"], [draw.int(0, 2) for _ in range(4)]
    extents = [draw.int(5, 7) for _ in "hw"]
    n, outs = draw.int(1, 2), groups * draw.int(1, 3)
    out = [
        (extents[i] + pads[i] + pads[i + 2] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i in range(2)
    ]
    taps = shifts * kernel[0] * kernel[1]
    feeds = {
        "x": draw.tensor((n, channels, *extents)),
        "offset": draw.tensor((n, 2 * taps, *out), low=-2, high=2),
    }
    constants = {"w": draw.tensor((outs, channels // groups, *kernel))}
    order = ["x", "w", "offset"]
    if draw.flag():
        constants["b"] = draw.tensor((outs,))
        order.append("b")
    if draw.flag():
        feeds["mask"] = draw.tensor((n, taps, *out), low=0, high=1)
        order += ["mask"] if "b" in order else ["", "mask"]
    attributes = {
        "group": groups, "offset_group": shifts, "strides": strides, "pads": pads,
        "dilations": dilations, "kernel_shape": kernel,
    }  # fmt: skip
    return Use("DeformConv", feeds, constants, attributes, order=order)


def maxima_of_regions(draw: Draw) -> Use:
    n, rois = draw.int(1, 3), draw.int(1, 4)
    corner, size = draw.tensor((rois, 2), low=-2, high=6), draw.tensor((rois, 2), low=0.1, high=9)
    feeds = {
        "x": draw.tensor((n, draw.int(1, 3), draw.int(3, 7), draw.int(3, 7))),
        "rois": np.concatenate([corner, corner + size], 1),
        "batch": draw.random.integers(0, n, rois),
    }
    mode = draw.of("half_pixel", "output_half_pixel")
    attributes = {
        "mode": "max", "output_height": draw.int(1, 3), "output_width": draw.int(1, 3),
        "sampling_ratio": draw.int(1, 3), "spatial_scale": draw.of(1.0, 0.5),
        "coordinate_transformation_mode": mode,
    }  # fmt: skip
    return Use("RoiAlign", feeds, {}, attributes)


def pooled_places(draw: Draw) -> Use:
    rank = draw.int(1, 3)
    kernel = [draw.int(1, 3) for _ in range(rank)]
    attributes = {
        "kernel_shape": kernel,
        "strides": [draw.int(1, 3) for _ in range(rank)],
        "dilations": [draw.int(1, 2) for _ in range(rank)],
        "pads": [min(draw.int(0, 1), k - 1) for k in kernel] * 2,
    }
    shape = (draw.int(1, 2), draw.int(1, 3), *(draw.int(6, 8) for _ in range(rank)))
    # Distinct values: which of equal ones is the place is nobody's business.
    x = draw.random.permutation(int(np.prod(shape))).reshape(shape).astype("float32")
    return Use("MaxPool", {"x": x}, {}, attributes, outputs=2)


def unpooled(draw: Draw) -> Use:
    dims = (draw.int(1, 2), draw.int(1, 2), draw.int(2, 3), draw.int(2, 3))
    cells = 4 * int(np.prod(dims))
    places = draw.random.permutation(cells)[: int(np.prod(dims))].reshape(dims)
    feeds = {"x": draw.tensor(dims), "i": places.astype(np.int64)}
    shape = int64(*dims[:2], 2 * dims[2] + 1, 2 * dims[3])
    constants = {"shape": shape} if draw.flag() else {}
    return Use("MaxUnpool", feeds, constants, {"kernel_shape": [2, 2], "strides": [2, 2]})


def determinants(draw: Draw) -> Use:
    size = draw.int(1, 5)
    x = draw.tensor((*draw.shape(0, 2, 3), size, size), "float64")
    if draw.flag():
        x[..., 0] = x[..., -1]  # none, unless of one column
    if draw.flag():
        x[..., 0, 0] = 0  # needs another pivot
    return Use("Det", {"x": x}, want=[np.linalg.det(x)])


@seeds(1)
def test_sampling(seed: int) -> None:
    check_uses(drawn(seed, 4, deform_convs), opset=19, atol=1e-4)
    check_uses(drawn(seed, 3, maxima_of_regions), truth="onnxruntime")


@seeds(1)
def test_places_of_maxima(seed: int) -> None:
    check_uses(drawn(seed, 4, pooled_places), truth="onnxruntime")
    check_uses(drawn(seed, 4, unpooled))


@seeds(1)
def test_determinants(seed: int) -> None:
    check_uses(drawn(seed, 5, determinants))


def test_storage_order_counts_columns_first() -> None:
    x = np.random.default_rng(0).permutation(60).reshape(1, 1, 6, 10).astype("float32")
    attributes = {"kernel_shape": [2, 3], "strides": [2, 3], "storage_order": 1}
    check_uses([Use("MaxPool", {"x": x}, {}, attributes, outputs=2)], truth="onnxruntime")


def products(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(), draw.of("float32", "float64", "int32"))
    attributes = {"exclusive": int(draw.flag()), "reverse": int(draw.flag())}
    return Use("CumProd", {"x": x}, {"axis": np.array(draw.axis(x.ndim))}, attributes)


def cache_writes(draw: Draw) -> Use:
    rank, batch, capacity = draw.int(3, 4), draw.int(1, 3), draw.int(3, 6)
    axis, mode = draw.int(1, rank - 1), draw.of("linear", "circular")
    dims = [batch, *(draw.int(1, 3) for _ in range(rank - 1))]
    dims[axis], length = capacity, draw.int(1, capacity)
    update = [length if a == axis else d for a, d in enumerate(dims)]
    first = draw.random.integers(0, capacity - length + 1 if mode == "linear" else 9, batch)
    feeds = {"cache": draw.tensor(dims), "update": draw.tensor(update), "first": first}
    return Use("TensorScatter", feeds, {}, {"axis": axis, "mode": mode})


@seeds(1)
def test_products_and_cache_writes(seed: int) -> None:
    check_uses(drawn(seed, 5, products), opset=26, rtol=1e-4)
    check_uses(drawn(seed, 5, cache_writes), opset=24)


@pytest.mark.parametrize(("low", "high", "dtype"), [(0.0, 1.0, None), (-3.0, 5.0, "float64")])
def test_uniform_numbers_are_spread_and_repeat(
    tmp_path: Path, low: float, high: float, dtype: str | None
) -> None:
    attributes = {} if dtype is None else {"dtype": TensorProto.DOUBLE}
    nodes = [
        helper.make_node("RandomUniform", [], ["a"], name="one", shape=[100, 200], low=low,
                         high=high, **attributes),
        helper.make_node("RandomUniformLike", ["x"], ["b"], name="two", low=low, high=high,
                         dtype=TensorProto.FLOAT),
    ]  # fmt: skip
    elem = TensorProto.FLOAT if dtype is None else TensorProto.DOUBLE
    proto = model(nodes, [value("x", ["n"])], [value("a", None, elem), value("b", None)])
    session = motet.load(motet.compile(saved(proto, tmp_path)))
    feeds = {"x": np.zeros(20_000, np.float32)}
    first, again = session.run("m", feeds), session.run("m", feeds)
    spread = high - low
    for name in ("a", "b"):
        np.testing.assert_array_equal(first[name], again[name])
        numbers = first[name].ravel()
        assert low <= numbers.min() < low + 0.01 * spread
        assert high - 0.01 * spread < numbers.max() < high
        counts = np.histogram(numbers, 20, (low, high))[0]
        # Chi-squared of 19 degrees of freedom: 43.8 is passed once in a thousand.
        assert ((counts - 1000) ** 2 / 1000).sum() < 43.8
    assert abs(np.corrcoef(first["a"].ravel(), first["b"])[0, 1]) < 0.03


def test_normal_numbers_and_seeds(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("RandomNormal", [], [name], shape=[20_000], mean=2.0, scale=3.0, seed=seed)
        for name, seed in (("a", 1.0), ("b", 1.0), ("c", 2.0))
    ]
    proto = model(nodes, [value("x", [1])], [value(n, None) for n in "abc"])
    got = motet.load(motet.compile(saved(proto, tmp_path))).run("m", {"x": np.zeros(1, "f4")})
    np.testing.assert_array_equal(got["a"], got["b"])
    assert abs(np.corrcoef(got["a"], got["c"])[0, 1]) < 0.03
    assert abs(got["a"].mean() - 2) < 0.1
    assert abs(got["a"].std() - 3) < 0.1
    assert 0.66 < (np.abs(got["a"] - 2) < 3).mean() < 0.70


def test_draws_follow_their_probabilities(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Bernoulli", ["p"], ["hit"], name="coin"),
        helper.make_node("Multinomial", ["logits"], ["draw"], name="die", sample_size=20_000),
    ]
    inputs = [value("p", [20_000]), value("logits", [2, 3])]
    outputs = [value("hit", None), value("draw", None, TensorProto.INT32)]
    chances = np.array([[0.2, 0.5, 0.3], [0.0, 0.9, 0.1]], np.float32)
    with np.errstate(divide="ignore"):
        feeds = {"p": np.full(20_000, 0.3, np.float32), "logits": np.log(chances)}
    session = motet.load(motet.compile(saved(model(nodes, inputs, outputs), tmp_path)))
    got = session.run("m", feeds)
    assert abs(got["hit"].mean() - 0.3) < 0.02
    for row, chance in zip(got["draw"], chances, strict=True):
        share = np.bincount(row, minlength=3) / len(row)
        np.testing.assert_allclose(share, chance, atol=0.02)


def test_adaptive_maxima_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("RoiAlign", ["x", "r", "b"], ["y"], name="pool", mode="max")
    inputs = [value("x", [1, 1, 4, 4]), value("r", [2, 4]), value("b", [2], TensorProto.INT64)]
    path = saved(model([node], inputs, [value("y", None)]), tmp_path)
    with pytest.raises(UnsupportedOperatorError, match=r"'pool'.*sampling_ratio"):
        motet.compile(path)
