"""Narrow element types: every bit pattern in and out, rounding, and graphs of all kinds."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from narrow_models import FLOATS, INTEGERS, Array, assert_same, proto, run
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from motet.runtime.errors import ModelError

BYTES = np.arange(256, dtype=np.uint8)


def patterns(name: str) -> Array:
    """Every value of a type; of integers with all bits above, which count for nothing."""
    if name == "bfloat16":
        return np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    last = 16 if name == "float4_e2m1fn" else 256
    return BYTES[:last].view(getattr(ml_dtypes, name))


def difficult() -> Array:
    """Random float32 patterns; values of all types, the halves between them, and neighbours."""
    random = np.random.default_rng(0)
    parts = [random.integers(0, 1 << 32, 30_000, dtype=np.uint64).astype(np.uint32).view("f4")]
    parts.append(np.array([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-45, -1e-45], "f4"))
    for name in FLOATS.values():
        values = patterns(name).astype(np.float32)
        values = np.sort(values[np.isfinite(values)])[:: 64 if name == "bfloat16" else 1]
        halves = ((values[1:].astype("f8") + values[:-1]) / 2).astype("f4")
        for exact in (values, halves):
            parts += [exact, *(np.nextafter(exact, np.float32(end)) for end in (-np.inf, np.inf))]
    return np.concatenate(parts)


def cast(to: str, source: str = "x", target: str = "", **how: object) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target or to], to=getattr(TensorProto, to), **how)


@pytest.mark.parametrize("saturate", [0, 1])
def test_float32_is_rounded_as_ml_dtypes_rounds(tmp_path: Path, saturate: int) -> None:
    x = {"x": difficult()}
    made = proto([cast(to, saturate=saturate) for to in FLOATS], x, {to: to for to in FLOATS})
    got = run(made, x, tmp_path)
    for to, name in FLOATS.items():
        dtype = np.dtype(getattr(ml_dtypes, name))
        saturates = saturate and name.startswith("float8")
        want = onnx.numpy_helper.saturate_cast(x["x"], dtype) if saturates else x["x"].astype(dtype)
        assert_same(got[to], want)


def test_every_bit_pattern_passes_both_ways(tmp_path: Path) -> None:
    """To float32, and back out as it came in: through a transpose, which only moves it."""
    types = {**FLOATS, **INTEGERS, "FLOAT8E8M0": "float8_e8m0fnu"}
    inputs = {f"in_{to}": patterns(name).reshape(2, -1) for to, name in types.items()}
    nodes = [cast("FLOAT", f"in_{to}", f"wide_{to}") for to in types]
    nodes += [helper.make_node("Transpose", [f"in_{to}"], [f"out_{to}"]) for to in types]
    outputs = {f"wide_{to}": "FLOAT" for to in types} | {f"out_{to}": to for to in types}
    got = run(proto(nodes, inputs, outputs), inputs, tmp_path)
    for to in types:
        x = inputs[f"in_{to}"]
        assert_same(got[f"wide_{to}"], x.astype(np.float32))
        want = np.ascontiguousarray(x.T)
        if to in INTEGERS:
            want = want.astype(np.float32).astype(x.dtype)  # without the bits above
        assert_same(got[f"out_{to}"], want)


def test_powers_of_two_round_in_three_ways(tmp_path: Path) -> None:
    x = {"x": np.abs(difficult())}
    modes = {f"{mode}{s}": (mode, s) for mode in ("up", "down", "nearest") for s in (0, 1)}
    nodes = [
        cast("FLOAT8E8M0", target=name, round_mode=mode, saturate=s)
        for name, (mode, s) in modes.items()
    ]
    got = run(proto(nodes, x, dict.fromkeys(modes, "FLOAT8E8M0")), x, tmp_path)
    for name, (mode, s) in modes.items():
        assert_same(got[name], onnx.numpy_helper.to_float8e8m0(x["x"], bool(s), mode))


def test_casts_between_all_kinds_of_types(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    whole = random.integers(0, 2, 64)
    inputs = {
        "f16": np.linspace(-9, 9, 64).astype(np.float16),
        "f64": np.linspace(-300, 300, 64),
        "i32": random.integers(-300, 300, 64).astype(np.int32),
        "u8": np.arange(64, dtype=np.uint8),
        "flag": whole.astype(bool),
        "i4": random.integers(-8, 8, 64).astype(ml_dtypes.int4),
        "u2": random.integers(0, 4, 64).astype(ml_dtypes.uint2),
        "bf16": np.linspace(-7, 7, 64).astype(ml_dtypes.bfloat16),
        "f8": np.linspace(-7, 7, 64).astype(ml_dtypes.float8_e5m2),
    }
    targets = ["BFLOAT16", "FLOAT8E4M3FN", "FLOAT4E2M1", "INT4", "UINT2", "FLOAT16", "INT8", "BOOL"]
    # Out of an integer's range a float has no defined value, nor below 0 without a sign.
    pairs = [
        (source, to)
        for source in inputs
        for to in targets
        if to not in ("UINT2", "INT4") or source not in ("f16", "f64", "bf16", "f8")
        if to != "INT8" or source != "f64"
        if (source, to) not in (("i4", "UINT2"), ("u2", "INT4"))  # onnx's reference has none
    ]
    nodes = [cast(to, source, f"{source}_{to}") for source, to in pairs]
    made = proto(nodes, inputs, {f"{source}_{to}": to for source, to in pairs})
    want = ReferenceEvaluator(made).run(None, inputs)
    for (source, to), value in zip(pairs, want, strict=True):
        assert_same(run_once(made, inputs, tmp_path)[f"{source}_{to}"], value)


_RESULTS: dict[bytes, dict[str, Array]] = {}


def run_once(made: onnx.ModelProto, inputs: dict[str, Array], folder: Path) -> dict[str, Array]:
    key = made.SerializeToString()
    if key not in _RESULTS:
        _RESULTS[key] = run(made, inputs, folder)
    return _RESULTS[key]


def test_bits_as_another_type(tmp_path: Path) -> None:
    inputs = {
        "f32": np.array([1.5, -0.0, np.inf], np.float32),
        "i16": np.array([16256, -16384, 3], np.int16),
        "i4": np.array([-8, 3, -1], ml_dtypes.int4),
        "flag": np.array([True, False, True]),
    }
    pairs = {"f32": "UINT32", "i16": "BFLOAT16", "i4": "UINT4", "flag": "UINT8"}
    nodes = [
        helper.make_node("BitCast", [name], [f"{name}_bits"], to=getattr(TensorProto, to))
        for name, to in pairs.items()
    ]
    made = proto(nodes, inputs, {f"{n}_bits": to for n, to in pairs.items()}, opset=26)
    got = run(made, inputs, tmp_path)
    np.testing.assert_array_equal(got["f32_bits"], inputs["f32"].view(np.uint32))
    np.testing.assert_array_equal(got["i16_bits"], inputs["i16"].view(ml_dtypes.bfloat16))
    np.testing.assert_array_equal(got["i4_bits"], np.array([8, 3, 15], ml_dtypes.uint4))
    np.testing.assert_array_equal(got["flag_bits"], inputs["flag"].view(np.uint8))


def test_bfloat16_arithmetic_is_rounded_after_every_operator(tmp_path: Path) -> None:
    """Sums of 256 and small numbers differ where a step is not rounded."""
    random = np.random.default_rng(2)
    inputs = {
        "x": random.uniform(-300, 300, (4, 8)).astype(ml_dtypes.bfloat16),
        "y": random.uniform(-2, 2, (4, 8)).astype(ml_dtypes.bfloat16),
    }
    weights = {"w": random.uniform(-1, 1, (8, 3)).astype(ml_dtypes.bfloat16)}
    nodes = [
        helper.make_node("Add", ["x", "y"], ["sum"]),
        helper.make_node("Sub", ["sum", "x"], ["lost"]),
        helper.make_node("Mul", ["lost", "sum"], ["product"]),
        helper.make_node("Concat", ["product", "y"], ["joined"], axis=0),
        helper.make_node("MatMul", ["joined", "w"], ["out"]),
        helper.make_node("Greater", ["x", "y"], ["larger"]),
        helper.make_node("Where", ["larger", "sum", "product"], ["chosen"]),
        helper.make_node("ReduceMax", ["chosen"], ["most"], keepdims=0),
    ]
    outputs = {"lost": "BFLOAT16", "product": "BFLOAT16", "chosen": "BFLOAT16", "out": "BFLOAT16"}
    made = proto(nodes, inputs, {**outputs, "larger": "BOOL", "most": "BFLOAT16"}, weights)
    got, want = run(made, inputs, tmp_path), ReferenceEvaluator(made).run(None, inputs)
    for name, value in zip([*outputs, "larger", "most"], want, strict=True):
        if name == "out":  # summed in float32 here
            assert got[name].dtype == value.dtype
            wide = got[name].astype(np.float32)
            np.testing.assert_allclose(wide, value.astype(np.float32), rtol=0.02, atol=4)
        else:
            assert_same(got[name], np.asarray(value))


def test_weights_quantised_in_blocks(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    inputs = {"x": random.uniform(-4, 4, (3, 8)).astype(np.float32)}
    weights = {
        "scale": random.uniform(0.1, 1, (3, 4)).astype(np.float32),
        "i4": random.integers(-3, 3, (3, 4)).astype(ml_dtypes.int4),
        "u2": random.integers(0, 4, (3, 4)).astype(ml_dtypes.uint2),
        "f4": np.zeros((3, 4), ml_dtypes.float4_e2m1fn),
        "f8": np.zeros((3, 4), ml_dtypes.float8_e5m2),
        "bscale": random.uniform(0.1, 1, (3, 4)).astype(ml_dtypes.bfloat16),
    }
    kinds = {"i4": "INT4", "u2": "UINT2", "f4": "FLOAT4E2M1", "f8": "FLOAT8E5M2"}
    nodes, outputs = [], {}
    for zero, to in kinds.items():
        how = {"axis": 1, "block_size": 2}
        nodes += [
            helper.make_node("QuantizeLinear", ["x", "scale", zero], [f"q_{zero}"], **how),
            helper.make_node(
                "DequantizeLinear", [f"q_{zero}", "scale", zero], [f"d_{zero}"], **how
            ),
            helper.make_node(
                "DequantizeLinear", [f"q_{zero}", "bscale", zero], [f"b_{zero}"], **how
            ),
        ]
        outputs |= {f"q_{zero}": to, f"d_{zero}": "FLOAT", f"b_{zero}": "BFLOAT16"}
    made = proto(nodes, inputs, outputs, weights)
    got, want = run(made, inputs, tmp_path), ReferenceEvaluator(made).run(None, inputs)
    for name, value in zip(outputs, want, strict=True):
        assert_same(got[name], np.asarray(value))


def test_types_survive_branches_and_scans(tmp_path: Path) -> None:
    bf16 = TensorProto.BFLOAT16
    inputs = {
        "flag": np.array(True),
        "x": np.array([255.0, 256.0], ml_dtypes.bfloat16),
        "one": np.array([1.0, 1.0], ml_dtypes.bfloat16),
    }
    info = helper.make_tensor_value_info
    sides = [
        helper.make_graph(
            [helper.make_node(op, ["x", "one"], ["o"])], op, [], [info("o", bf16, [2])]
        )
        for op in ("Add", "Sub")
    ]
    body = helper.make_graph(
        [
            helper.make_node("Add", ["s", "one"], ["next"]),
            helper.make_node("Identity", ["next"], ["each"]),
        ],
        "body",
        [info("s", bf16, [2])],
        [info("next", bf16, [2]), info("each", bf16, [2])],
    )
    nodes = [
        helper.make_node("If", ["flag"], ["chosen"], then_branch=sides[0], else_branch=sides[1]),
        helper.make_node("Add", ["chosen", "one"], ["after"]),
        helper.make_node("Unsqueeze", ["after", "zero"], ["rows"]),
        helper.make_node(
            "Scan", ["x", "rows"], ["last", "all"], body=scan(body), num_scan_inputs=1
        ),
    ]
    outputs = dict.fromkeys(("after", "last", "all"), "BFLOAT16")
    made = proto(nodes, inputs, outputs, {"zero": np.array([0])})
    for flag in (True, False):
        given = {**inputs, "flag": np.array(flag)}
        got, want = run_once(made, given, tmp_path), ReferenceEvaluator(made).run(None, given)
        for name, value in zip(outputs, want, strict=True):
            assert_same(got[name], np.asarray(value))
        _RESULTS.clear()


def scan(body: onnx.GraphProto) -> onnx.GraphProto:
    """``body`` with a scanned input beside its state."""
    result = onnx.GraphProto()
    result.CopyFrom(body)
    result.input.append(helper.make_tensor_value_info("row", TensorProto.BFLOAT16, [2]))
    return result


def test_arithmetic_in_few_bits_that_onnx_has_not(tmp_path: Path) -> None:
    inputs = {"x": np.array([1, 2], ml_dtypes.int4)}
    made = proto([helper.make_node("Add", ["x", "x"], ["y"])], inputs, {"y": "INT4"})
    with pytest.raises(ModelError, match="int4"):
        run(made, inputs, tmp_path)


def test_many_roundings_in_a_row_compile(tmp_path: Path) -> None:
    """LLVM's time grows exponentially with roundings nested in one expression."""
    inputs = {
        "x": np.linspace(-2, 2, 64).astype(ml_dtypes.bfloat16),
        "y": np.linspace(1, 1.5, 64).astype(ml_dtypes.bfloat16),
    }
    nodes = [
        helper.make_node("Mul", [f"x{i}" if i else "x", "y"], [f"x{i + 1}"]) for i in range(14)
    ]
    made = proto(nodes, inputs, {"x14": "BFLOAT16"})
    want = inputs["x"]
    for _ in range(14):
        want = want * inputs["y"]
    assert_same(run(made, inputs, tmp_path)["x14"], want)


def test_operators_of_all_families_in_bfloat16(tmp_path: Path) -> None:
    """Each is computed in float32 and rounded once; onnx's reference rounds on the way too."""
    random = np.random.default_rng(5)

    def bf16(array: object) -> Array:
        return np.asarray(array).astype(ml_dtypes.bfloat16)

    inputs = {"x": bf16(random.uniform(-3, 3, (2, 3, 8, 8)))}
    weights = {
        "w": bf16(random.uniform(-1, 1, (4, 3, 3, 3))),
        "v": bf16(random.uniform(0.1, 2, 3)),
        "low": bf16(-1.0),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "k": np.array([3]),
        "axes": np.array([2, 3]),
        "places": np.array([[0, 1], [0, 1]]),
        "updates": bf16(random.uniform(-1, 1, (2, 8, 8))),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["Conv"]),
        node("Softmax", ["x"], ["Softmax"]),
        node("BatchNormalization", ["x", "v", "v", "v", "v"], ["BatchNormalization"]),
        node("AveragePool", ["x"], ["AveragePool"], kernel_shape=[2, 2]),
        node("Clip", ["x", "low"], ["Clip"]),
        node("Pad", ["x", "pads", "low"], ["Pad"]),
        node("TopK", ["x", "k"], ["TopK", "positions"]),
        node("ReduceMean", ["x", "axes"], ["ReduceMean"]),
        node("ScatterND", ["x", "places", "updates"], ["ScatterND"], reduction="add"),
        node("Gelu", ["x"], ["Gelu"]),
        node("Gather", ["x", "k"], ["Gather"], axis=3),
    ]
    names = [one.output[0] for one in nodes]
    made = proto(nodes, inputs, dict.fromkeys(names, "BFLOAT16"), weights, opset=24)
    got, want = run(made, inputs, tmp_path), ReferenceEvaluator(made).run(None, inputs)
    for name, value in zip(names, want, strict=True):
        wide = np.asarray(value).astype(np.float32)
        assert got[name].dtype == ml_dtypes.bfloat16
        error = np.abs(got[name].astype(np.float32) - wide).max() / np.abs(wide).max()
        assert error < 0.02, name
        if name in ("Clip", "Pad", "TopK", "Gather"):
            assert_same(got[name], np.asarray(value))


def test_packed_weights_that_do_not_fill_their_shape(tmp_path: Path) -> None:
    inputs = {"x": np.zeros(5, np.float32)}
    weights = {"w": np.ones(5, ml_dtypes.int4)}
    nodes = [cast("FLOAT", "w", "d"), helper.make_node("Add", ["x", "d"], ["y"])]
    made = proto(nodes, inputs, {"y": "FLOAT"}, weights)
    made.graph.initializer[0].raw_data = b"11"  # five values take three bytes
    with pytest.raises(ModelError, match=r"stores 2 bytes, but its shape \[5\] needs 3"):
        run(made, inputs, tmp_path)
