"""Quantised operators of ``com.microsoft`` against onnxruntime, and models that it quantises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
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

import motet
from motet.errors import UnsupportedOperatorError

EXAMPLES = Path(__file__).parents[3] / "examples" / "models"
BYTES = ("uint8", "int8")


def node(op_type: str, names: str, output: str, **attributes: object) -> onnx.NodeProto:
    domain = "com.microsoft"
    return helper.make_node(op_type, names.split(), [output], output, domain=domain, **attributes)


def parameters(rng: np.random.Generator, element: str) -> dict[str, np.ndarray]:
    """Scales and zero points of two inputs and an output; halves are frequent."""
    zeros = {f"{name}z": integers(rng, (), element) for name in "abc"}
    return {"as": np.float32(0.5), "bs": np.float32(0.25), "cs": np.float32(0.5), **zeros}


@pytest.mark.parametrize("at_run_time", [False, True])
@pytest.mark.parametrize("element", BYTES)
def test_all_pairs_of_bytes(tmp_path, element, at_run_time):
    limits = np.iinfo(element)
    every = np.arange(limits.min, limits.max + 1).astype(element)
    a, b = (np.ascontiguousarray(side) for side in np.meshgrid(every, every))
    constants = parameters(np.random.default_rng(1), element)
    kinds = ("QLinearAdd", "QLinearMul")
    nodes = [node(k, "a as az b bs bz cs cz", f"y{i}") for i, k in enumerate(kinds)]
    nodes += [node("QLinearLeakyRelu", "a as az cs cz", "y2", alpha=0.3)]
    nodes += [node("QLinearConcat", "cs cz a as az b cs cz", "y3", axis=1)]
    outputs = dict.fromkeys(("y0", "y1", "y2", "y3"), element)
    feeds = {"a": a, "b": b, **(constants if at_run_time else {})}
    proto = graph_of(nodes, feeds, {} if at_run_time else constants, outputs)
    equal(run(proto, feeds, tmp_path), by_onnxruntime(proto, feeds))


@pytest.mark.parametrize("element", BYTES)
def test_of_real_functions_within_one_step(tmp_path, element):
    """The exponential of either side is right to some units of its last place: a value that
    lies that near to a half may go to either integer.
    """
    rng = np.random.default_rng(2)
    low = np.array(np.iinfo(element).min, element)
    constants = {"as": scales(rng), "az": integers(rng, (), element), "cs": np.float32(1 / 256)}
    feeds = {"a": integers(rng, (6, 5, 40), element)}
    nodes = [
        node("QLinearSigmoid", "a as az cs low", "y0"),
        node("QLinearSoftmax", "a as az cs low", "y1", axis=-1, opset=13),
        node("QLinearSoftmax", "a as az cs low", "y2", axis=1, opset=11),
    ]
    outputs = dict.fromkeys(("y0", "y1", "y2"), element)
    proto = graph_of(nodes, feeds, {**constants, "low": low}, outputs)
    got = run(proto, feeds, tmp_path)
    for ours, theirs in zip(got, by_onnxruntime(proto, feeds), strict=True):
        assert ours.dtype == theirs.dtype
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


@pytest.mark.parametrize("element", BYTES)
def test_pooling_and_choice(tmp_path, element):
    rng = np.random.default_rng(3)
    constants = parameters(rng, element)
    feeds = {
        "a": integers(rng, (2, 9, 12, 13), element),
        "last": integers(rng, (2, 12, 13, 9), element),
        "b": integers(rng, (9, 12, 13), element),
        "w": rng.integers(0, 2, (12, 13)).astype(bool),
    }
    window = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 1, 1, 0]}
    nodes = [
        node("QLinearGlobalAveragePool", "a as az cs cz", "y0"),
        node("QLinearGlobalAveragePool", "last as az cs cz", "y1", channels_last=1),
        node("QLinearAveragePool", "a as az cs cz", "y2", **window),
        node("QLinearAveragePool", "a as az cs cz", "y3", **window, ceil_mode=1),
        node(
            "QLinearAveragePool", "a as az cs cz", "y4", **window,
            ceil_mode=1, count_include_pad=1,
        ),
        node("QLinearAveragePool", "last as az cs cz", "y5", **window, channels_last=1),
        node("QLinearWhere", "w a as az b cs cz cs cz", "y6"),
    ]  # fmt: skip
    outputs = dict.fromkeys([f"y{i}" for i in range(len(nodes))], element)
    proto = graph_of(nodes, feeds, constants, outputs)
    got, want = run(proto, feeds, tmp_path), by_onnxruntime(proto, feeds)
    exact = [0, 1, 6]
    equal([got[i] for i in exact], [want[i] for i in exact])
    for ours, theirs in zip(got, want, strict=True):  # means of floats, divided otherwise
        assert ours.dtype == theirs.dtype
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


@pytest.mark.parametrize("last", [0, 1])
def test_convolution_with_channels_last(tmp_path, last):
    rng = np.random.default_rng(4)
    feeds = {"x": integers(rng, (2, 9, 7, 8) if last else (2, 8, 9, 7), "uint8")}
    constants = {
        "xs": scales(rng), "xz": np.uint8(7), "w": integers(rng, (10, 8, 3, 3), "uint8"),
        "ws": scales(rng, (10,)), "wz": np.full(10, 99, np.uint8), "ys": np.float32(5),
        "yz": np.uint8(128), "b": rng.integers(-9999, 9999, 10).astype(np.int32),
    }  # fmt: skip
    order = ["x", *constants]
    proto = one(
        "QLinearConv", feeds, constants, order, domain="com.microsoft",
        channels_last=last, pads=[1, 1, 0, 1],
    )  # fmt: skip
    equal(run(proto, feeds, tmp_path), by_onnxruntime(proto, feeds))


@pytest.mark.parametrize("element", BYTES)
def test_products_into_integers(tmp_path, element):
    rng = np.random.default_rng(5)
    feeds = {"a": integers(rng, (5, 33), element)}
    constants = {
        **parameters(rng, element),
        "b": weights(rng, (33, 7), element), "bt": weights(rng, (7, 33), element),
        "bss": scales(rng, (7,)), "bzz": weights(rng, (7,), element),
        "c": rng.integers(-5000, 5000, 7).astype(np.int32), "big": np.float32(9),
    }  # fmt: skip
    nodes = [
        node("QGemm", "a as az b bs bz c big cz", "y0"),
        node("QGemm", "a as az bt bss bzz", "y1", transB=1, alpha=0.5),
    ]
    proto = graph_of(nodes, feeds, constants, {"y0": element, "y1": "float32"})
    got, want = run(proto, feeds, tmp_path), by_onnxruntime(proto, feeds)
    equal(got[:1], want[:1])
    np.testing.assert_allclose(got[1], want[1], rtol=1e-6)


def test_products_into_floats(tmp_path):
    rng = np.random.default_rng(6)
    feeds = {"a": integers(rng, (5, 33), "uint8"), "x": rng.normal(size=(4, 33)).astype("f4")}
    constants = {
        "b": weights(rng, (33, 7), "int8"), "as": scales(rng), "az": np.uint8(100),
        "bs": scales(rng, (7,)), "bz": integers(rng, (7,), "int8"), "s": scales(rng),
        "z": np.int8(3), "bias": rng.normal(size=7).astype("f4"),
    }  # fmt: skip
    nodes = [
        node("MatMulIntegerToFloat", "a b as bs az bz bias", "y0"),
        node("DynamicQuantizeMatMul", "x b s z bias", "y1"),
    ]
    proto = graph_of(nodes, feeds, constants, {"y0": "float32", "y1": "float32"})
    got, want = run(proto, feeds, tmp_path), by_onnxruntime(proto, feeds, precise=False)
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def packed_weight(
    rng: np.random.Generator, n: int, blocks: int, bits: int, block: int, zeros: str
) -> dict[str, np.ndarray]:
    found = {
        "b": integers(rng, (n, blocks, block * bits // 8), "uint8"),
        "s": scales(rng, (n, blocks)),
    }
    if zeros == "packed":
        found["z"] = integers(rng, (n, -(-blocks * bits // 8)), "uint8")
    if zeros == "floats":
        found["z"] = rng.uniform(4, 12, (n, blocks)).astype(np.float32)
    return found


@pytest.mark.parametrize(
    ("bits", "block", "zeros"),
    [(4, 32, "packed"), (4, 16, "none"), (8, 32, "packed"), (2, 32, "packed"), (4, 32, "floats")],
)
def test_weights_of_few_bits(tmp_path, bits, block, zeros):
    rng = np.random.default_rng(7)
    n, k = 24, 80
    feeds = {"a": rng.normal(size=(3, k)).astype(np.float32)}
    constants = packed_weight(rng, n, -(-k // block), bits, block, zeros)
    proto = one(
        "MatMulNBits", feeds, constants, domain="com.microsoft",
        K=k, N=n, bits=bits, block_size=block,
    )  # fmt: skip
    (got,), (want,) = run(proto, feeds, tmp_path), by_onnxruntime(proto, feeds)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_a_weight_of_few_bits_from_an_input_is_refused(tmp_path):
    rng = np.random.default_rng(8)
    constants = packed_weight(rng, 4, 1, 4, 32, "none")
    feeds = {"a": np.zeros((1, 32), np.float32), "b": constants.pop("b")}
    attributes = {"K": 32, "N": 4, "bits": 4, "block_size": 32}
    proto = one("MatMulNBits", feeds, constants, domain="com.microsoft", **attributes)
    with pytest.raises(UnsupportedOperatorError, match=r"the_node.*weight.*compile time"):
        compiled(proto, tmp_path)


class Pictures:
    """Calibration data for onnxruntime's quantiser."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        pictures = [rng.uniform(0, 1, (1, 1, 32, 32)).astype(np.float32) for _ in range(2)]
        self.rest: Iterator[dict[str, np.ndarray]] = iter([{"image": x} for x in pictures])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rest, None)


def quantised(name: str, kind: str, folder: Path) -> Path:
    """An example model, quantised by onnxruntime's tool."""
    tool = pytest.importorskip("onnxruntime.quantization")
    source, result = EXAMPLES / f"{name}.onnx", folder / f"{name}_{kind}.onnx"
    if kind == "dynamic":
        tool.quantize_dynamic(source, result, per_channel=True)
        return result
    pairs = kind.startswith("pairs")
    shape = tool.QuantFormat.QDQ if pairs else tool.QuantFormat.QOperator
    activations = tool.QuantType.QUInt16 if kind == "pairs16" else tool.QuantType.QUInt8
    tool.quantize_static(
        source, result, Pictures(), quant_format=shape, per_channel=kind == "pairs",
        activation_type=activations, weight_type=tool.QuantType.QInt8,
    )  # fmt: skip
    return result


STEPS = {"dynamic": 0.1, "operators": 0.1, "pairs": 0.1, "pairs16": 1e-3}
"""Largest error of an output of 2.5 to 4.5: a step of 8 bits, or rounding in 16 (a float
operator between two quantised ones decides a half otherwise)."""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("digits_mobile", "operators"),
        ("digits_mobile", "dynamic"),
        ("digits_transformer", "operators"),
        ("digits_transformer", "dynamic"),
        ("digits_transformer", "pairs"),
        ("digits_transformer", "pairs16"),
    ],
)
def test_models_that_onnxruntime_quantised(tmp_path, name, kind):
    path = quantised(name, kind, tmp_path)
    (model,) = motet.load(motet.compile(path)).values()
    feeds = {"image": np.random.default_rng(5).uniform(0, 1, (3, 1, 32, 32)).astype(np.float32)}
    (got,) = model.run(None, feeds)
    (want,) = by_onnxruntime(onnx.load(path), feeds)
    assert np.abs(got - want).max() <= STEPS[kind]
    assert (got.argmax(1) == want.argmax(1)).all()
