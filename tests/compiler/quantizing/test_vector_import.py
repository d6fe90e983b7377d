"""Files that ``motet quantize`` writes: their products become operators of vectors, and compute
what the definition says, bit for bit, and what onnxruntime computes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import motet
from motet.compiler.frontend.load import load_model
from motet.compiler.quantizing.choices import chosen
from motet.compiler.quantizing.products import products_of
from motet.compiler.quantizing.quantizer import Quantizer
from motet.compiler.quantizing.rewriting import rewritten
from motet.compiler.quantizing.statistics import statistics_of
from motet.compiler.vector_functions import DOMAIN, TWO_LEVELS
from motet.passes.canonicalize import canonicalize
from motet.passes.graph import bindings_of
from motet.passes.join_vectors import Joined, join_vectors
from motet.passes.names import names_of
from motet.passes.op_kinds import op_name
from motet.passes.options import JoinVectorsOptions
from motet.targets.operators.vectors import PRODUCTS, QUANTIZE_VECTORS, VECTOR_CONV, VectorProduct
from motet.targets.quantized.notation import setting
from motet.targets.quantized.products import convolution, matmul
from motet.targets.quantized.scales import quantized

Network = tuple[onnx.ModelProto, tuple[int, ...], int]


def network(
    nodes: list[onnx.NodeProto], shape: tuple[int, ...], rank: int, **stored: np.ndarray
) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"y{i}" for i in range(rank)])
    weights = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in stored.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def convolutions() -> Network:
    """Of 2 axes, with bias, stride and groups, then of one axis, then a Gemm."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", strides=[2, 2], group=2),
        helper.make_node("Reshape", ["c2", "flat"], ["f2"], "flat"),
        helper.make_node("Conv", ["f2", "w3"], ["c3"], "conv3", pads=[2, 0], dilations=[2]),
        helper.make_node("ReduceMean", ["c3", "last"], ["p"], "mean", keepdims=0),
        helper.make_node("Gemm", ["p", "w4", "b4"], ["y"], "gemm", transB=1, alpha=0.5),
    ]
    model = network(
        nodes, (1, 3, 8, 8), 2, w1=rng.standard_normal((32, 3, 3, 3)), b1=rng.standard_normal(32),
        w2=rng.standard_normal((24, 16, 3, 3)), w3=rng.standard_normal((20, 24, 2)),
        w4=rng.standard_normal((5, 20)), b4=rng.standard_normal(5),
    )  # fmt: skip
    for name, values in (("flat", [1, 24, 9]), ("last", [2])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    return model, (1, 3, 8, 8), 4


def perceptron() -> Network:
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["g1"], "gemm1"),
        helper.make_node("Relu", ["g1"], ["r1"], "relu1"),
        helper.make_node("MatMul", ["r1", "w2"], ["y"], "matmul2"),
    ]
    model = network(
        nodes, (4, 37), 2, w1=rng.standard_normal((37, 40)), b1=rng.standard_normal(40),
        w2=rng.standard_normal((40, 6)),
    )  # fmt: skip
    return model, (4, 37), 2


def attention() -> Network:
    """One head of 24, 20 positions: three projections and two products of computed values."""
    rng = np.random.default_rng(2)
    nodes = [
        *(helper.make_node("MatMul", ["x", f"w{n}"], [n], f"project_{n}") for n in "qkv"),
        helper.make_node("Transpose", ["k"], ["kt"], "turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s"], "scores"),
        helper.make_node("Softmax", ["s"], ["a"], "softmax", axis=-1),
        helper.make_node("MatMul", ["a", "v"], ["y"], "values"),
    ]
    stored = {f"w{n}": rng.standard_normal((24, 24)) / 5 for n in "qkv"}
    return network(nodes, (2, 20, 24), 3, **stored), (2, 20, 24), 5


NETWORKS = {"convolutions": convolutions, "perceptron": perceptron, "attention": attention}
SETTINGS = ["4/8/6/10", "8/8/6/10", "4/4/4/4", "8/8/-/-", "4/8/6/10 paper"]


def quantized_file(name: str, text: str, folder: Path) -> tuple[Path, dict[str, np.ndarray], int]:
    model, shape, products = NETWORKS[name]()
    onnx.save(model, folder / "floats.onnx")
    inputs = {"x": np.random.default_rng(3).standard_normal(shape).astype(np.float32)}
    maker = Quantizer(folder / "floats.onnx", [inputs])
    form, _, paper = text.partition(" ")
    made = maker.quantized(maker.choices(setting(form, 16)), paper=bool(paper))
    onnx.save(made, folder / "integers.onnx")
    return folder / "integers.onnx", inputs, products


@pytest.mark.parametrize("text", SETTINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_product_is_of_vectors(name: str, text: str, tmp_path: Path) -> None:
    path, _, products = quantized_file(name, text, tmp_path)
    told = Joined()
    module = load_model(path, "m").module
    module = canonicalize(join_vectors(JoinVectorsOptions(), told)(module))
    calls = [b.value for b in bindings_of(module["m"])]
    counts = Counter(map(op_name, calls))
    assert (told.count, told.refused) == (products, [])
    assert sum(counts[each] for each in PRODUCTS) == products
    assert not {"relax.matmul", "relax.nn.conv1d", "relax.nn.conv2d"} & counts.keys()
    # The three projections share what they read.
    assert counts[QUANTIZE_VECTORS] == (5 if name == "attention" else products)
    found = [call for call in calls if op_name(call) in PRODUCTS]
    assert all(names_of(call) for call in found)
    weights, data, *scales = (
        0 if bits == "-" else int(bits) for bits in text.split()[0].split("/")
    )
    for call in found:
        what = VectorProduct.of(call)
        computed = "scores" in names_of(call) or "values" in names_of(call)
        assert what.x_bits == data
        assert what.w_bits == (data if computed else weights)
        assert what.x_scale_bits == scales[1]
        assert what.w_scale_bits == scales[1 if computed else 0]


@pytest.mark.parametrize(
    ("name", "text"),
    [("convolutions", "4/8/6/10"), ("perceptron", "4/8/6/10 paper"), ("attention", "8/8/6/10"),
     ("convolutions", "8/8/-/-")],
)  # fmt: skip
def test_values_are_those_of_onnxruntime(name: str, text: str, tmp_path: Path) -> None:
    path, inputs, _ = quantized_file(name, text, tmp_path)
    (model,) = motet.load(motet.compile(path)).values()
    (made,) = model.run(None, inputs)
    (wanted,) = onnxruntime.InferenceSession(path).run(None, inputs)
    # A float sum on the other side of a half moves an integer of the next layer by one.
    np.testing.assert_allclose(made, wanted, rtol=0, atol=0.02 * np.abs(wanted).max())


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("text", ["4/8/6/10", "3/2/9/12"])
def test_a_convolution_is_the_definition_to_the_bit(text: str, groups: int, tmp_path: Path) -> None:
    """Of one scale where vectors would straddle the groups, which are 4."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2, 32, 6, 5)).astype(np.float32)
    w = rng.standard_normal((8, 32 // groups, 3, 2)).astype(np.float32)
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], "conv", group=groups, strides=[2, 1], pads=[1, 0, 1, 2]
    )
    model = network([node], x.shape, 4, w=w)
    seen = statistics_of(model, [{"x": x}])
    (product,), _ = products_of(model, seen.shapes)
    choice = chosen(product, setting(text, 16), seen.magnitudes)
    assert choice.data.type.granularity == ("tensor" if groups == 4 else "vector")
    onnx.save(rewritten(model, [choice]), tmp_path / "m.onnx")
    data = quantized(x, choice.data.type, product.data.axes, gamma=choice.data.gamma)
    wanted = convolution(
        data, quantized(w, choice.weights, product.weights.axes), groups=groups, strides=(2, 1),
        pads=(1, 0, 1, 2), dilations=(1, 1),
    )  # fmt: skip
    (bundle,) = motet.load(motet.compile(tmp_path / "m.onnx")).values()
    np.testing.assert_array_equal(bundle.run(None, {"x": x})[0], wanted.real())


def test_a_product_is_the_definition_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((3, 37)), rng.standard_normal((6, 37))
    x, w = x.astype(np.float32), w.astype(np.float32)
    model = network([helper.make_node("Gemm", ["x", "w"], ["y"], "g", transB=1)], (3, 37), 2, w=w)
    seen = statistics_of(model, [{"x": x}])
    (product,), _ = products_of(model, seen.shapes)
    choice = chosen(product, setting("4/8/6/10", 16), seen.magnitudes)
    onnx.save(rewritten(model, [choice]), tmp_path / "m.onnx")
    data = quantized(x, choice.data.type, product.data.axes, gamma=choice.data.gamma)
    right = quantized(w.T, choice.weights, type(product.weights.axes)(0, 1))
    (bundle,) = motet.load(motet.compile(tmp_path / "m.onnx")).values()
    wanted = matmul(data, right).real()
    np.testing.assert_array_equal(bundle.run(None, {"x": x})[0], wanted)


def one_product(tmp_path: Path) -> onnx.ModelProto:
    path, _, _ = quantized_file("perceptron", "4/8/6/10", tmp_path)
    return onnx.load(path)


def operators(model: onnx.ModelProto, path: Path) -> Counter[str]:
    onnx.save(model, path)
    module = load_model(path, "m").module
    return Counter(op_name(binding.value) for binding in bindings_of(module["m"]))


def test_a_function_of_our_name_with_another_body_is_inlined(tmp_path: Path) -> None:
    model = one_product(tmp_path)
    (function,) = [f for f in model.functions if f.name == TWO_LEVELS]
    (rounding,) = [node for node in function.node if node.op_type == "Round"]
    rounding.op_type = "Floor"
    counts = operators(model, tmp_path / "changed.onnx")
    assert not counts[QUANTIZE_VECTORS]
    assert counts["relax.floor"] == 2


@pytest.mark.parametrize(("key", "value"), [("largest", 126.0), ("largest_scale", 1000.0)])
def test_a_call_that_no_type_makes_is_inlined(key: str, value: float, tmp_path: Path) -> None:
    model = one_product(tmp_path)
    node = next(node for node in model.graph.node if node.domain == DOMAIN)
    (attribute,) = [each for each in node.attribute if each.name == key]
    attribute.CopyFrom(helper.make_attribute(key, value))
    assert not operators(model, tmp_path / "changed.onnx")[QUANTIZE_VECTORS]


def test_pads_that_do_not_fill_the_last_vector_are_refused(tmp_path: Path) -> None:
    model = one_product(tmp_path)
    node = next(node for node in model.graph.node if node.domain == DOMAIN)
    (attribute,) = [each for each in node.attribute if each.name == "pads"]
    attribute.CopyFrom(helper.make_attribute("pads", [0, 3]))
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(motet.errors.ModelError, match="x_dequantized"):
        load_model(tmp_path / "changed.onnx", "m")


def blocked(
    values: np.ndarray, scales: np.ndarray, element: int, axis: int, block: int, zero: int | None
) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    """Stored weights "wq" in blocks of ``block``, dequantised to "w"."""
    narrow = helper.tensor_dtype_to_np_dtype(element)
    stored = [
        numpy_helper.from_array(values.astype(narrow), "wq"),
        numpy_helper.from_array(scales.astype(np.float32), "ws"),
    ]
    inputs = ["wq", "ws"]
    if zero is not None:
        inputs.append("wz")
        stored.append(numpy_helper.from_array(np.full(scales.shape, zero, narrow), "wz"))
    node = helper.make_node(
        "DequantizeLinear", inputs, ["w"], "weights", axis=axis, block_size=block
    )
    return node, stored


def per_tensor(scale: float, zero: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """ "x" in int8 with one scale: "xr"."""
    stored = [
        numpy_helper.from_array(np.float32(scale), "xs"),
        numpy_helper.from_array(np.int8(zero), "xz"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"], "quantise"),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xr"], "real"),
    ]
    return nodes, stored


FOREIGN = [
    # element, least and largest integer, block, zero point of weights and data; joined, or why not
    (TensorProto.INT4, -8, 8, 16, None, 0, ""),
    (TensorProto.UINT4, 0, 16, 16, 8, 0, ""),
    (TensorProto.INT8, -128, 128, 8, None, 0, ""),
    (TensorProto.UINT8, 0, 256, 16, 128, 0, ""),
    (TensorProto.INT8, -128, 128, 16, None, 3, "no vectors of integers"),
    (TensorProto.INT8, -128, 128, 2, None, 0, None),
    (TensorProto.INT8, -128, 128, 256, None, 0, None),
]


@pytest.mark.parametrize(("element", "low", "high", "block", "zero", "shift", "why"), FOREIGN)
@pytest.mark.parametrize("turned", [False, True])
def test_blocks_of_other_tools_beside_data_of_one_scale(
    element: int, low: int, high: int, block: int, zero: int | None, shift: int, why: str | None,
    turned: bool, tmp_path: Path,
) -> None:  # fmt: skip
    rng = np.random.default_rng(6)
    x = rng.standard_normal((3, 40)).astype(np.float32)
    values = rng.integers(low, high, (40, 7))
    scales = rng.random((-(-40 // block), 7)) + 0.1
    if turned:
        values, scales = values.T, scales.T
    weights, stored = blocked(values, scales, element, int(turned), block, zero)
    nodes, more = per_tensor(0.05, shift)
    nodes.append(weights)
    if turned:
        nodes.append(helper.make_node("Transpose", ["w"], ["wt"], "turn", perm=[1, 0]))
    nodes.append(helper.make_node("MatMul", ["xr", "wt" if turned else "w"], ["y"], "product"))
    model = network(nodes, x.shape, 2)
    model.graph.initializer.extend([*stored, *more])
    onnx.save(model, tmp_path / "m.onnx")
    told = Joined()
    join_vectors(JoinVectorsOptions(), told)(load_model(tmp_path / "m.onnx", "m").module)
    assert told.count == (why == "")
    assert len(told.refused) == bool(why)
    assert all(why in line and "product" in line for line in told.refused if why)
    (bundle,) = motet.load(motet.compile(tmp_path / "m.onnx")).values()
    step = np.repeat(scales, block, int(turned)).take(range(40), int(turned))
    real = ((values - (zero or 0)) * step).astype(np.float32)
    integers = np.clip(np.rint(x / np.float32(0.05)) + shift, -128, 127) - shift
    wanted = (integers * np.float32(0.05)).astype(np.float64) @ (real.T if turned else real)
    np.testing.assert_allclose(
        bundle.run(None, {"x": x})[0], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max()
    )


def test_blocks_of_computed_integers(tmp_path: Path) -> None:
    """ONNX's own blocked QuantizeLinear in front of a convolution, scales given."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((1, 20, 4, 4)).astype(np.float32)
    steps = (rng.random((1, 3, 4, 4)) * 0.02 + 0.02).astype(np.float32)
    values, scales = rng.integers(-7, 8, (6, 20, 1, 1)), rng.random((6, 3, 1, 1)) + 0.1
    weights, stored = blocked(values, scales, TensorProto.INT4, 1, 8, None)
    more = {"axis": 1, "block_size": 8}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"], "q", output_dtype=3, **more),
        helper.make_node("DequantizeLinear", ["q", "s"], ["r"], "r", **more),
        weights,
        helper.make_node("Conv", ["r", "w"], ["y"], "conv"),
    ]
    model = network(nodes, x.shape, 4, s=steps)
    model.graph.initializer.extend(stored)
    onnx.save(model, tmp_path / "m.onnx")
    module = join_vectors(JoinVectorsOptions())(load_model(tmp_path / "m.onnx", "m").module)
    assert VECTOR_CONV in map(op_name, (b.value for b in bindings_of(module["m"])))
    each = np.repeat(steps, 8, 1)[:, :20]
    real = np.clip(np.rint(x / each), -128, 127) * each
    kernel = values * np.repeat(scales.astype(np.float32), 8, 1)[:, :20]
    wanted = np.einsum("nchw,oc->nohw", real.astype(np.float64), kernel[..., 0, 0])
    (bundle,) = motet.load(motet.compile(tmp_path / "m.onnx")).values()
    np.testing.assert_allclose(
        bundle.run(None, {"x": x})[0], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max()
    )
