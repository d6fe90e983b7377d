"""Bundles of networks of few bits: how large they are, what commands say, what they compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from front_outcome import Motet
from onnx import TensorProto, helper, numpy_helper

import motet
from motet.runtime.bundle import open_bundle


def convolutions(path: Path, bits: int) -> Path:
    """A dense, a depthwise convolution and a product, with QDQ; weights of ``bits`` bits."""
    rng, top = np.random.default_rng(2), (1 << (bits - 1)) - 1
    element = {4: TensorProto.INT4, 8: TensorProto.INT8}[bits]
    stored: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def const(values: Any, dtype: Any) -> str:
        stored.append(numpy_helper.from_array(np.asarray(values, dtype), f"c{len(stored)}"))
        return stored[-1].name

    def node(op: str, *inputs: str, **attrs: Any) -> str:
        name = f"v{len(nodes)}"
        nodes.append(helper.make_node(op, inputs, [name], name=name, **attrs))
        return name

    def rounded(x: str) -> str:
        scale, zero = const(0.03, np.float32), const(128, np.uint8)
        return node("DequantizeLinear", node("QuantizeLinear", x, scale, zero), scale, zero)

    def weights(*shape: int) -> str:
        dtype = helper.tensor_dtype_to_np_dtype(element)
        values = const(rng.integers(-top, top, shape, endpoint=True).astype(dtype), dtype)
        steps = const(rng.uniform(0.5, 1, shape[0]) / top, np.float32)
        return node("DequantizeLinear", values, steps, axis=0)

    x = node("Conv", rounded("x"), weights(128, 64, 3, 3), pads=[1] * 4)
    x = node("Conv", rounded(x), weights(128, 1, 3, 3), pads=[1] * 4, group=128)
    x = node("Flatten", node("GlobalAveragePool", x))
    x = node("Gemm", rounded(x), weights(1000, 128), transB=1)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, [1, 64, 7, 7])],
        [info(x, TensorProto.FLOAT, [1, 1000])], stored,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("packed")
    return {
        bits: motet.compile(convolutions(folder / f"w{bits}.onnx", bits)).save(
            folder / f"w{bits}.motet"
        )
        for bits in (4, 8)
    }


def section(path: Path) -> int:
    (found,) = (s.size for s in open_bundle(path).manifest.sections if s.name == "weights")
    return found


def test_weights_of_4_bits_take_half_of_those_of_8(bundles: dict[int, Path]):
    weights = 128 * 64 * 9 + 128 * 9 + 1000 * 128
    four, eight = section(bundles[4]), section(bundles[8])
    assert weights / 2 < four < 0.56 * eight  # scales, biases and padding beside
    assert weights < eight < 1.1 * weights


def test_what_was_packed_computes_what_was_compiled(bundles: dict[int, Path]):
    path = bundles[4]
    x = np.random.default_rng(0).standard_normal((1, 64, 7, 7)).astype(np.float32)
    fresh = motet.load(motet.compile(path.with_suffix(".onnx")))["w4"].run(None, {"x": x})
    opened = motet.load(path)["w4"].run(None, {"x": x})
    np.testing.assert_array_equal(fresh[0], opened[0])


def test_inspect_says_sizes_and_the_share_of_integers(run_motet: Motet, bundles: dict[int, Path]):
    done = run_motet("inspect", bundles[4], "--json")
    facts = json.loads(done.out)
    assert facts["weight_file_bytes"] < facts["weight_bytes"] / 1.9
    (model,) = facts["models"]
    assert model["integer_macs"] == model["macs"] > 0
    shown = run_motet("inspect", bundles[4]).out
    assert " in the file)" in shown
    assert "(100.0 % in integers)" in shown


def test_compile_says_what_packing_saves(run_motet: Motet, bundles: dict[int, Path]):
    source = bundles[4].with_suffix(".onnx")
    done = run_motet("compile", source, "-o", bundles[4].with_name("again.motet"))
    assert done.code == 0, done.err
    assert "weights packed in fewer bits save" in done.out.replace("\n", " ")
    assert bundles[4].with_name("again.motet").read_bytes() == bundles[4].read_bytes()
