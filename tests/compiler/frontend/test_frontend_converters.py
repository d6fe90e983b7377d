"""Converters against onnx's reference evaluator, and the Relax operators they emit."""

from typing import Any

import numpy as np
import onnx
import pytest
from frontend_models import check, load, model, operators, single, value
from onnx import TensorProto, helper

from motet.runtime.errors import UnsupportedOperatorError

RNG = np.random.default_rng(7)


def f(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


IMAGE = f(1, 2, 5, 6)


def case(
    op: str,
    feeds: Any,
    constants: dict[str, np.ndarray] | None = None,
    label: str = "",
    **options: Any,
) -> Any:
    if not isinstance(feeds, dict):
        feeds = {"x": feeds}
    return pytest.param(op, feeds, constants or {}, options, id=f"{op}-{label}" if label else op)


CASES = [
    case("Clip", f(3, 4), {"lo": np.float32(-0.5), "hi": np.float32(0.5)}),
    case("Clip", f(3, 4), {"lo": np.float32(0.5)}, "low"),
    case("Clip", f(3, 4), {"hi": np.float32(0.5)}, "high", inputs=["x", "", "hi"]),
    case("Clip", {"x": f(3, 4), "lo": np.array(-0.1, "f"), "hi": np.array(0.2, "f")}, {}, "run"),
    case("Clip", f(3, 4), {}, "attributes", opset=9, min=-0.3, max=0.2),
    case("Pad", f(2, 3), {"p": ints(1, 0, 2, 1), "v": np.float32(7)}),
    case("Pad", f(4, 5), {"p": ints(1, 2, 3, 1)}, "reflect", mode="reflect"),
    case("Pad", f(4, 5), {"p": ints(1, 2, 3, 1)}, "edge", mode="edge"),
    case("Pad", f(4, 5), {"p": ints(1, 2, 3, 1)}, "wrap", mode="wrap", opset=19),
    case("Pad", f(2, 3), {}, "attributes", opset=7, pads=[1, 0, 0, 2], value=3.0),
    case("Pad", f(4, 5), {"p": ints(1, 1), "v": np.float32(0), "a": ints(-1)}, "axes"),
    case("Pad", f(4, 5), {"p": ints(-1, 0, 0, -2)}, "negative"),
    case("Tile", f(2, 3), {"r": ints(2, 3)}),
    case("CumSum", f(3, 4), {"a": np.int64(1)}),
    case("CumSum", f(3, 4), {"a": np.int64(0)}, "both", exclusive=1, reverse=1),
    case("Einsum", {"a": f(2, 3, 4), "b": f(2, 5, 4)}, {}, "batch", equation="bij,bkj->bki"),
    case("Einsum", {"a": f(2, 3, 4), "b": f(4, 5)}, {}, "dots", equation="...ij,jk->...ik"),
    case("Einsum", {"a": f(3), "b": f(4)}, {}, "outer", equation="i,j"),
    case("Einsum", {"a": f(3, 4), "b": f(4, 2)}, {}, "implicit", equation="ij,jk"),
    case("Einsum", {"a": f(2, 3, 4)}, {}, "transposed", equation="ijk->kji"),
    case("Einsum", {"a": f(3, 2, 3)}, {}, "diagonal", equation="iji->ij"),
    case("Einsum", {"a": f(3, 3), "b": f(4, 3)}, {}, "trace", equation="ii,ji->j"),
    case("IsInf", np.array([1, np.inf, -np.inf], "f"), {}, "positive", detect_negative=0),
    case("IsInf", np.array([1, np.inf, -np.inf], "f"), {}, "negative", detect_positive=0),
    case("DepthToSpace", f(1, 8, 2, 3), {}, "DCR", blocksize=2),
    case("DepthToSpace", f(1, 8, 2, 3), {}, "CRD", blocksize=2, mode="CRD"),
    case("SpaceToDepth", f(1, 2, 4, 6), {}, blocksize=2),
    case("Expand", f(3, 1), {"s": ints(2, 1, 4)}, "partial"),
    case("Mod", ints(-7, 7, 5), {"y": ints(3, -3, 4)}, "floor"),
    case("Mod", f(4), {"y": f(4)}, "fmod", fmod=1),
    case(
        "BitShift", np.array([1, 2, 255], "u1"), {"y": np.array([8, 1, 9], "u1")}, direction="LEFT"
    ),
    case(
        "Gemm", {"a": f(3, 2)}, {"b": f(4, 3), "c": f(4)}, transA=1, transB=1, alpha=0.5, beta=2.0
    ),
    case("Pow", f(3) + 3, {"e": np.array(2, np.int64)}, "mixed"),
    case("Elu", f(3, 4) * 100, {}, alpha=0.7),
    case("Selu", f(3, 4)),
    case("ThresholdedRelu", f(3, 4), {}, alpha=0.2),
    case("HardSwish", f(3, 4)),
    case("Celu", f(3, 4), {}, "body", alpha=0.8),
    case("Mish", f(3, 4)),
    case("Softmax", f(2, 3, 4), {}, "flat", opset=11, axis=1),
    case("Softmax", f(2, 3, 4), {}, "axis", axis=1),
    case("LogSoftmax", f(2, 5)),
    case("LRN", f(1, 6, 3, 3), {}, size=5, alpha=0.1, beta=0.6, bias=1.5),
    case("MeanVarianceNormalization", f(2, 3, 4, 4)),
    case("LpNormalization", f(2, 3, 4), {}, axis=1, p=2, opset=22),
    case("InstanceNormalization", f(2, 3, 4, 4), {"s": f(3), "b": f(3)}),
    case("GroupNormalization", f(2, 4, 3, 3), {"s": f(4), "b": f(4)}, opset=21, num_groups=2),
    case("LayerNormalization", f(2, 3, 4), {"s": f(4), "b": f(4)}, outputs=3),
    case("ReduceMean", f(2, 3, 4), {"a": ints(1, -1)}, keepdims=0),
    case("ReduceMean", f(2, 3, 4), {}, "old", opset=11, axes=[1]),
    case("ReduceLogSumExp", f(2, 3) * 50, {"a": ints(1)}),
    case("ReduceSum", f(2, 3), {}, "noop", noop_with_empty_axes=1),
    case("ReduceL2", f(2, 3, 4), {"a": ints(0)}),
    case("ArgMax", np.array([[3, 1, 3]], "f"), {}, "last", axis=1, select_last_index=1),
    case("TopK", f(2, 6), {"k": ints(3)}, outputs=2),
    case("Gather", f(4, 3), {"i": np.array([[0, -1], [2, 1]])}, "negative"),
    case("Gather", {"x": f(4, 3), "i": ints(-1, 2)}, {}, "run"),
    case("GatherElements", f(3, 3), {"i": np.array([[0, -1, 1]])}, axis=0),
    case("GatherND", f(2, 3, 4), {"i": np.array([[0, -1], [1, 0]])}),
    case("ScatterElements", f(3, 4), {"i": np.array([[0, 2]]), "u": f(1, 2)}, axis=1),
    case("ScatterND", f(4, 2), {"i": np.array([[1], [-1]]), "u": f(2, 2)}),
    case("OneHot", ints(0, -1, 7), {"d": np.array(3), "v": np.array([2, 5], "f")}),
    case(
        "OneHot",
        np.array([0, 2, 0.7, -1], "f"),
        {"d": np.array(3), "v": np.array([2, 5], "f")},
        "of_floats",
    ),
    case("Slice", f(5, 6), {"s": ints(-2, 1), "e": ints(2**31, 5), "a": ints(0, 1)}),
    case("Slice", f(5, 6), {"s": ints(4), "e": ints(-100), "a": ints(0), "t": ints(-2)}, "back"),
    case("Slice", f(5, 6), {}, "attributes", opset=7, starts=[1], ends=[-1], axes=[1]),
    case("Split", f(7, 2), {}, "uneven", outputs=3, num_outputs=3),
    case("Split", f(6, 2), {"s": ints(1, 5)}, "sizes", outputs=2),
    case("RMSNormalization", f(2, 3, 4), {"s": f(4)}, opset=23),
    case("RMSNormalization", f(3, 4), {"s": f(3, 4)}, "all", opset=23, axis=0),
    case("Reshape", f(2, 3, 4), {"s": ints(0, -1)}),
    case("Squeeze", f(1, 3, 1), {"a": ints(-1)}),
    case("Unsqueeze", f(3), {"a": ints(0, -1)}),
    case("Cast", f(4) * 3, {}, "bool", to=TensorProto.BOOL),
    case("Dropout", f(2, 3), {}, "mask", outputs=2),
    case("BatchNormalization", f(2, 3, 4, 4), {"s": f(3), "b": f(3), "m": f(3), "v": f(3) ** 2}),
    case(
        "BatchNormalization",
        f(2, 3),
        {"s": f(3), "b": f(3), "m": f(3), "v": f(3) ** 2},
        "7",
        opset=7,
    ),
    case(
        "Conv",
        IMAGE,
        {"w": f(3, 2, 3, 3), "b": f(3)},
        "same",
        auto_pad="SAME_LOWER",
        strides=[2, 2],
    ),
    case("Conv", f(1, 2, 9), {"w": f(4, 1, 3)}, "1d", group=2, pads=[2, 1], dilations=[2]),
    case(
        "ConvTranspose",
        f(1, 2, 3, 3),
        {"w": f(2, 3, 3, 3)},
        "padding",
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        output_padding=[1, 1],
    ),
    case(
        "ConvTranspose",
        f(1, 2, 3, 3),
        {"w": f(2, 3, 3, 3)},
        "output_shape",
        strides=[2, 2],
        output_shape=[6, 6],
    ),
    case("MaxPool", IMAGE, {}, "ceil", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    case("AveragePool", IMAGE, {}, "pads", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    case(
        "AveragePool",
        IMAGE,
        {},
        "count",
        kernel_shape=[3, 3],
        pads=[1, 0, 1, 1],
        count_include_pad=1,
    ),
    case(
        "AveragePool", f(1, 1, 4, 4), {}, "ceil", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1
    ),
    case("LpPool", IMAGE, {}, kernel_shape=[2, 2], p=3),
    case("GlobalMaxPool", IMAGE),
    case("Min", {"a": f(3, 1), "b": f(4), "c": f(1)}),
    case("Mean", {"a": f(3, 1), "b": f(4)}),
    case("PRelu", f(2, 3, 4), {"s": f(3, 1)}),
    case("Trilu", f(3, 4), {"k": np.int64(1)}, upper=0),
    case("Identity", f(2)),
    case("Equal", {"a": f(9) > 0, "b": f(9) > 0}, {}, "booleans"),
    case(
        "Col2Im",
        f(2, 12, 12),
        {"i": ints(5, 6), "b": ints(3, 2)},
        "pads",
        pads=[0, 1, 0, 1],
        strides=[1, 2],
    ),
    case("Col2Im", f(1, 6, 3), {"i": ints(8), "b": ints(3)}, "one axis", strides=[2]),
    case("STFT", f(2, 20), {"s": np.int64(4), "w": f(8)}),
    case(
        "STFT",
        f(1, 20, 1),
        {"s": np.int64(5), "n": np.int64(7)},
        "whole",
        onesided=0,
        inputs=["x", "s", "", "n"],
    ),
    case("DFT", f(2, 6, 3, 1), {}, "real", axis=1, onesided=1, opset=17),
    case("DFT", f(2, 6, 5, 2), {"a": np.int64(-2)}, "complex", inputs=["x", "", "a"], opset=20),
    case("DFT", f(2, 4, 3, 2), {}, "even_real_inverse", axis=1, inverse=1, onesided=1, opset=19),
    case(
        "DFT",
        f(2, 4, 3, 2),
        {"n": np.int64(7), "a": np.int64(1)},
        "odd_real_inverse",
        inverse=1,
        onesided=1,
        opset=20,
    ),
    case("DFT", f(2, 7, 2), {}, "inverse", axis=1, inverse=1, opset=17),
]


@pytest.mark.parametrize(("op", "feeds", "constants", "options"), CASES)
def test_converter(tmp_path, op, feeds, constants, options):
    proto = single(op, feeds, constants, **options)
    # The reference evaluator runs old opsets, negative pads and some others wrongly or not at all.
    old = options.get("opset", 18) < 13 or op in ("LRN", "Mean", "ConvTranspose", "STFT")
    truth = "onnxruntime" if old or "negative" in str(tmp_path) else "onnx"
    imported = check(proto, feeds, tmp_path, 2e-5, 2e-5, truth)
    assert "relax.call_tir" not in operators(imported)


def resize(
    x: np.ndarray, target: dict[str, np.ndarray], opset: int = 19, **attributes: Any
) -> onnx.ModelProto:
    names = ["x", "", "scales" if "scales" in target else "", "sizes" if "sizes" in target else ""]
    if "roi" in target:
        names[1] = "roi"
    while not names[-1]:
        names.pop()
    return single("Resize", {"x": x}, target, inputs=names, opset=opset, **attributes)


COORDINATES = [
    "half_pixel",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "half_pixel_symmetric",
]


@pytest.mark.parametrize("sizes", [(10, 12), (3, 4), (7, 9), (5, 3)])
@pytest.mark.parametrize("coordinate", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_resize(tmp_path, mode, coordinate, sizes):
    target = {"sizes": ints(1, 2, *sizes)}
    proto = resize(IMAGE, target, mode=mode, coordinate_transformation_mode=coordinate)
    check(proto, {"x": IMAGE}, tmp_path, 1e-4, 1e-5)


@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("coordinate", ["half_pixel", "asymmetric"])
def test_resize_nearest(tmp_path, coordinate, rounding):
    target = {"scales": np.array([1, 1, 2.0, 0.6], "f")}
    options = {"coordinate_transformation_mode": coordinate, "nearest_mode": rounding}
    check(resize(IMAGE, target, mode="nearest", **options), {"x": IMAGE}, tmp_path)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_resize_antialias(tmp_path, mode):
    target = {"sizes": ints(1, 2, 3, 4)}
    proto = resize(IMAGE, target, mode=mode, antialias=1)
    check(proto, {"x": IMAGE}, tmp_path, 1e-4, 1e-5)


def test_resize_crop(tmp_path):
    roi = np.array([0, 0, 0.2, 0.1, 1, 1, 0.9, 1.3], "f")
    target = {"roi": roi, "sizes": ints(1, 2, 4, 4)}
    mode = "tf_crop_and_resize"
    proto = resize(
        IMAGE, target, mode="linear", coordinate_transformation_mode=mode, extrapolation_value=9.0
    )
    check(proto, {"x": IMAGE}, tmp_path, 1e-4, 1e-5)


def test_nearest_doubling_is_one_operator(tmp_path):
    target = {"scales": np.array([1, 1, 2, 2], "f")}
    options = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    imported = check(resize(IMAGE, target, mode="nearest", **options), {"x": IMAGE}, tmp_path)
    assert operators(imported) == ["relax.image.resize2d"]


@pytest.mark.parametrize("opset", [7, 9])
def test_upsample(tmp_path, opset):
    scales = np.array([1, 1, 2, 3], "f")
    if opset == 7:
        proto = single("Upsample", {"x": IMAGE}, opset=7, mode="nearest", scales=scales.tolist())
    else:
        proto = single("Upsample", {"x": IMAGE}, {"s": scales}, opset=9, mode="nearest")
    imported = load(proto, tmp_path)
    assert operators(imported) == ["relax.image.resize2d"]
    assert imported.outputs[0].shape == (1, 2, 10, 18)


@pytest.mark.parametrize("written", ["inputs", "attributes", "nodes"])
def test_relu6_is_one_clip(tmp_path, written):
    x = f(2, 3) * 9
    bounds = {"lo": np.float32(0), "hi": np.float32(6)}
    if written == "inputs":
        proto = single("Clip", {"x": x}, bounds)
    elif written == "attributes":
        proto = single("Clip", {"x": x}, opset=7, min=0.0, max=6.0)
    else:
        nodes = [
            helper.make_node("Constant", [], ["lo"], value_float=0.0),
            helper.make_node("Constant", [], ["hi"], value_float=6.0),
            helper.make_node("Clip", ["x", "lo", "hi"], ["y"]),
        ]
        proto = model(nodes, [value("x", [2, 3])], [value("y", [2, 3])])
    assert operators(check(proto, {"x": x}, tmp_path)) == ["relax.clip"]


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_align_corners_with_a_fractional_size(tmp_path, mode):
    """Of onnx's evaluator and onnxruntime, which disagree, the former counts."""
    target = {"scales": np.array([1, 1, 0.5, 0.6], "f")}
    corners = "align_corners"
    proto = resize(IMAGE, target, mode=mode, coordinate_transformation_mode=corners)
    check(proto, {"x": IMAGE}, tmp_path)


@pytest.mark.parametrize("mode", ["half_pixel", "output_half_pixel"])
def test_roi_align(tmp_path, mode):
    feeds = {"x": f(1, 2, 8, 8), "r": np.array([[2, 3, 11, 13]], "f"), "b": ints(0)}
    options = {"output_height": 3, "output_width": 3, "sampling_ratio": 2, "spatial_scale": 0.5}
    proto = single("RoiAlign", feeds, coordinate_transformation_mode=mode, **options)
    check(proto, feeds, tmp_path, 1e-4, 1e-5, "onnxruntime")


@pytest.mark.parametrize(
    "slope", [(), (1,), (4,), (3, 1), (1, 1, 1), (2, 1, 1), (2, 3, 4), (3, 4)], ids=str
)
@pytest.mark.parametrize("known", [True, False])
def test_prelu_slopes_stretch(tmp_path, slope, known):
    x = np.linspace(-2, 2, 24, dtype=np.float32).reshape(2, 3, 4)
    feeds, constants = {"x": x}, {"s": np.linspace(-1, 2, int(np.prod(slope))).reshape(slope)}
    constants["s"] = constants["s"].astype(np.float32)
    if not known:
        feeds, constants = feeds | constants, {}
    check(single("PRelu", feeds, constants), feeds, tmp_path)


@pytest.mark.parametrize("slope", [(3,), (5, 1, 1), (1, 1, 1, 1)], ids=str)
def test_prelu_slopes_that_do_not_stretch(tmp_path, slope):
    x, ones = np.ones((2, 3, 4), np.float32), np.ones(slope, np.float32)
    with pytest.raises(UnsupportedOperatorError, match=r"its slope of shape .* does not stretch"):
        load(single("PRelu", {"x": x}, {"s": ones}), tmp_path)
