"""Quantised operators of the default domain: equal, integer for integer, to the references."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import calls, load
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from quantized_models import (
    by_onnxruntime,
    compiled,
    equal,
    graph_of,
    integers,
    one,
    run,
    scales,
    weights,
)
from tvm.ir import GenericConst

BYTES = st.sampled_from(["uint8", "int8"])
SEEDS = st.integers(0, 2**31)


def few(examples: int):
    """Random uses, the same in every run; a compile each."""
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=quiet,
        phases=[Phase.explicit, Phase.generate],
    )


def parameter_shape(kind: str, shape: list[int], axis: int, block: int) -> list[int]:
    if kind == "tensor":
        return []
    if kind == "axis":
        return [shape[axis]]
    return [-(-d // block) if i == axis else d for i, d in enumerate(shape)]


@few(12)
@given(
    st.data(),
    SEEDS,
    st.sampled_from(["uint8", "int8", "uint16", "int16"]),
    st.sampled_from(["float32", "float16"]),
    st.sampled_from(["tensor", "axis", "blocks"]),
    st.booleans(),
)
def test_quantize_then_dequantize(tmp_path_factory, data, seed, element, real, kind, at_run_time):
    rng = np.random.default_rng(seed)
    shape = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    axis = data.draw(st.integers(0, len(shape) - 1))
    block = data.draw(st.integers(1, 4)) if kind == "blocks" else 0
    where = parameter_shape(kind, shape, axis, block)
    x = (rng.normal(size=shape) * 20).astype(real)
    constants = {"s": scales(rng, where).astype(real), "z": integers(rng, where, element)}
    with_zero = data.draw(st.booleans())
    if not with_zero:
        del constants["z"]
    number = helper.np_dtype_to_tensor_dtype(np.dtype(element))
    more = {} if with_zero else {"output_dtype": number}
    extra = {"axis": axis, "block_size": block}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *constants], ["q"], **extra, **more),
        helper.make_node("DequantizeLinear", ["q", *constants], ["r"], **extra),
    ]
    feeds = {"x": x, **(constants if at_run_time else {})}
    proto = graph_of(nodes, feeds, {} if at_run_time else constants, {"q": element, "r": real})
    want = ReferenceEvaluator(proto).run(None, feeds)
    equal(run(proto, feeds, tmp_path_factory.mktemp("q")), want)


def test_halves_go_to_even_and_the_ends_saturate(tmp_path):
    x = np.array([-1e9, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 254.5, 255.5, 3e38, np.inf], np.float32)
    one_, three = np.float32(1), np.uint8(3)
    proto = one("QuantizeLinear", {"x": x}, {"s": one_, "z": three}, dtype=np.uint8)
    (got,) = run(proto, {"x": x}, tmp_path)
    np.testing.assert_array_equal(got, [0, 1, 1, 3, 3, 5, 5, 255, 255, 255, 255])


def test_scalars_int32_and_a_wider_output(tmp_path):
    feeds = {"x": np.float32(3.4), "i": np.array([1, -70000], np.int32)}
    constants = {"s": np.float32(0.5), "z": np.uint8(7), "two": np.int32(2)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["r"]),
        helper.make_node("DequantizeLinear", ["i", "s"], ["w"]),
        helper.make_node("QuantizeLinear", ["i", "two"], ["u"], output_dtype=TensorProto.INT16),
    ]
    outputs = {"q": "uint8", "r": "float32", "w": "float32", "u": "int16"}
    q, r, w, u = run(graph_of(nodes, feeds, constants, outputs), feeds, tmp_path)
    assert (int(q), float(r), w.tolist(), u.tolist()) == (14, 3.5, [0.5, -35000.0], [0, -32768])


@pytest.mark.parametrize(
    "x", [[-3.0, 0.1, 7.7], [0.0, 0.0], [2.0, 9.0], [-9.0, -2.0], [1e-3, -5e4]]
)
def test_dynamic_quantize(tmp_path, x):
    feeds = {"x": np.array(x, np.float32)}
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    proto = graph_of([node], feeds, {}, {"q": "uint8", "s": "float32", "z": "uint8"})
    equal(run(proto, feeds, tmp_path), by_onnxruntime(proto, feeds))


@st.composite
def windows(draw):
    """Shapes and attributes of a convolution of 1 to 3 spatial axes."""
    rank = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inner, outer = groups * draw(st.integers(1, 5)), groups * draw(st.integers(1, 9))
    depthwise = draw(st.booleans())
    if depthwise:
        groups = outer = inner = draw(st.integers(1, 9))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    dilations = [draw(st.integers(1, 2)) for _ in range(rank)]
    sizes = [d * k + draw(st.integers(0, 7)) for d, k in zip(dilations, kernel, strict=True)]
    attributes = {
        "group": groups,
        "dilations": dilations,
        "strides": [draw(st.integers(1, 2)) for _ in range(rank)],
    }
    modes = ["NOTSET", "NOTSET", "VALID"]
    if max(dilations) == 1:  # with others, onnxruntime refuses them
        modes += ["SAME_UPPER", "SAME_LOWER"]
    mode = draw(st.sampled_from(modes))
    attributes["auto_pad"] = mode
    if mode == "NOTSET":
        attributes["pads"] = [draw(st.integers(0, k - 1)) for k in kernel * 2]
    batch = draw(st.integers(1, 2))
    return (batch, inner, *sizes), (outer, inner // groups, *kernel), attributes


@few(12)
@given(windows(), SEEDS, BYTES, BYTES, st.booleans(), st.booleans())
def test_conv_integer(tmp_path_factory, window, seed, x_type, w_type, zeros, at_run_time):
    x_shape, w_shape, attributes = window
    rng = np.random.default_rng(seed)
    feeds, constants = {"x": integers(rng, x_shape, x_type)}, {}
    (feeds if at_run_time else constants)["w"] = integers(rng, w_shape, w_type)
    if zeros:
        constants["xz"] = integers(rng, (), x_type)
        constants["wz"] = integers(rng, (), w_type)
    order = ["x", "w", *(["xz", "wz"] if zeros else [])]
    proto = one("ConvInteger", feeds, constants, order, np.int32, **attributes)
    want = ReferenceEvaluator(proto).run(None, feeds)
    equal(run(proto, feeds, tmp_path_factory.mktemp("c")), want)


@few(12)
@given(windows(), SEEDS, BYTES, st.booleans(), st.booleans(), st.booleans())
def test_q_linear_conv(tmp_path_factory, window, seed, element, channels, biased, at_run_time):
    x_shape, w_shape, attributes = window
    rng = np.random.default_rng(seed)
    outer = w_shape[:1] if channels else ()
    feeds = {"x": integers(rng, x_shape, element)}
    # onnxruntime wants equal zero points of every channel, of 0 where they are signed.
    zero = np.full(outer, 0 if element == "int8" else int(rng.integers(0, 256)), element)
    given_ = {
        "xs": scales(rng), "xz": integers(rng, (), element),
        "w": weights(rng, w_shape, element), "ws": scales(rng, outer), "wz": zero,
        "ys": np.float32(rng.uniform(0.5, 5)), "yz": integers(rng, (), element),
    }  # fmt: skip
    order = ["x", *given_]
    if biased:
        given_["b"] = rng.integers(-9999, 9999, w_shape[0]).astype(np.int32)
        order.append("b")
    constants = {} if at_run_time else given_
    feeds.update(given_ if at_run_time else {})
    proto = one("QLinearConv", feeds, constants, order, **attributes)
    equal(run(proto, feeds, tmp_path_factory.mktemp("c")), by_onnxruntime(proto, feeds))


@few(10)
@given(
    st.sampled_from([((5, 33), (33, 7)), ((1, 64), (64, 40)), ((2, 3, 4, 9), (9, 11)),
                     ((2, 6, 8), (2, 8, 5)), ((3, 1, 4, 8), (2, 8, 6)), ((130, 12), (12, 20))]),
    SEEDS, BYTES, BYTES, st.sampled_from(["none", "tensor", "rows"]), st.booleans(),
)  # fmt: skip
def test_mat_mul_integer(tmp_path_factory, shapes, seed, a_type, b_type, zeros, at_run_time):
    rng = np.random.default_rng(seed)
    a, b = integers(rng, shapes[0], a_type), integers(rng, shapes[1], b_type)
    feeds, constants = {"a": a}, {}
    (feeds if at_run_time else constants)["b"] = b
    if zeros != "none":
        rows = zeros == "rows" and a.ndim == 2
        constants["az"] = integers(rng, a.shape[:1] if rows else (), a_type)
        constants["bz"] = integers(rng, b.shape[-1:] if zeros == "rows" else (), b_type)
    order = ["a", "b", *(["az", "bz"] if zeros != "none" else [])]
    proto = one("MatMulInteger", feeds, constants, order, np.int32)
    az = np.int32(constants.get("az", 0))
    left = a.astype(np.int64) - (az[:, None] if np.ndim(az) else az)
    right = b.astype(np.int64) - constants.get("bz", np.int8(0)).astype(np.int64)
    (got,) = run(proto, feeds, tmp_path_factory.mktemp("m"))
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, left @ right)


@few(12)
@given(
    st.sampled_from([((5, 33), (33, 7)), ((2, 3, 4, 9), (9, 11)), ((2, 6, 8), (2, 8, 5))]),
    SEEDS, BYTES, st.booleans(), st.booleans(),
)  # fmt: skip
def test_q_linear_mat_mul(tmp_path_factory, shapes, seed, element, columns, at_run_time):
    rng = np.random.default_rng(seed)
    n = shapes[1][-1:] if columns and len(shapes[1]) == 2 else ()
    feeds = {"a": integers(rng, shapes[0], element)}
    given_ = {
        "as": scales(rng), "az": integers(rng, (), element),
        "b": weights(rng, shapes[1], element), "bs": scales(rng, n),
        "bz": integers(rng, n, element),
        "ys": np.float32(rng.uniform(0.5, 5)), "yz": integers(rng, (), element),
    }  # fmt: skip
    feeds.update(given_ if at_run_time else {})
    proto = one("QLinearMatMul", feeds, {} if at_run_time else given_, ["a", *given_])
    equal(run(proto, feeds, tmp_path_factory.mktemp("m")), by_onnxruntime(proto, feeds))


def test_sums_beyond_the_24_bits_of_a_float(tmp_path):
    depth = 4099
    rng = np.random.default_rng(3)
    a = np.full((2, depth), 255, np.uint8)
    b = rng.integers(120, 128, (depth, 3)).astype(np.int8)
    proto = one("MatMulInteger", {"a": a}, {"b": b}, dtype=np.int32)
    (got,) = run(proto, {"a": a}, tmp_path)
    np.testing.assert_array_equal(got, a.astype(np.int64) @ b.astype(np.int64))
    assert got.min() > 1 << 24
    x = np.full((1, depth, 2, 2), 255, np.uint8)
    w = rng.integers(120, 128, (3, depth, 1, 1)).astype(np.int8)
    proto = one("ConvInteger", {"x": x}, {"w": w}, dtype=np.int32)
    (got,) = run(proto, {"x": x}, tmp_path)
    want = np.einsum("ncij,oc->noij", x.astype(np.int64), w[:, :, 0, 0].astype(np.int64))
    np.testing.assert_array_equal(got, want)


def conv(zero: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    constants = {
        "xs": scales(rng), "xz": np.uint8(zero), "w": integers(rng, (4, 3, 3, 3), "uint8"),
        "ws": scales(rng, (4,)), "wz": np.full(4, 128, np.uint8), "ys": np.float32(2),
        "yz": np.uint8(9), "b": np.arange(4, dtype=np.int32),
    }  # fmt: skip
    return {"x": integers(rng, (1, 3, 8, 8), "uint8")}, constants


@pytest.mark.parametrize("zero", [0, 5])
def test_the_form_that_passes_recognise(tmp_path, zero):
    feeds, constants = conv(zero)
    proto = one("QLinearConv", feeds, constants, ["x", *constants])
    found = calls(load(proto, tmp_path))
    names = [str(call.op.name).removeprefix("relax.") for call in found]
    centring = ["astype", "subtract"] if zero else []
    assert names == [*centring, "nn.conv2d", "add", "astype", "multiply", "quantize"]
    product = found[len(centring)]
    weight = product.args[1]
    assert isinstance(weight, GenericConst)
    assert str(product.ty.dtype) == "int32"
    centred = constants["w"].astype(np.int32) - 128
    assert weight.value.numpy().dtype == np.int8
    np.testing.assert_array_equal(weight.value.numpy(), centred)


def test_an_array_with_bytes_computes_integers(tmp_path):
    feeds, constants = conv(5)
    proto = one("QLinearConv", feeds, constants, ["x", *constants])
    model = compiled(proto, tmp_path, "gemmini-16x16")
    equal(model.run(None, feeds), by_onnxruntime(proto, feeds))
    assert model.simulate(feeds).array_share == 1
