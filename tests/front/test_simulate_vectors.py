"""``motet simulate`` of a bundle whose programs are products of vectors alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from front_outcome import Motet
from onnx import TensorProto, helper, numpy_helper

import motet


def test_a_bundle_of_vectors(run_motet: Motet, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((64, 32)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [8, 32])],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    path = tmp_path / "net.onnx"
    opsets = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    data = {"x": rng.standard_normal((8, 64)).astype(np.float32)}
    options = motet.QuantizeOptions(setting="4/8/6/10")
    motet.quantize(path, data, options=options).save(tmp_path / "q.onnx")
    bundle = tmp_path / "q.motet"
    motet.compile([tmp_path / "q.onnx"], target="vsquant-64x64").save(bundle)
    done = run_motet("simulate", bundle)
    assert done.code == 0, done.err
    assert "VectorProduct" in done.out
    assert "100.0 % of 16.4 k MACs on the array" in done.out
