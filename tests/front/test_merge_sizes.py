"""``motet.merge`` of open sizes: a file that holds for some sizes says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from motet.merging import merge


def _model(path: Path, pad: int) -> Path:
    random = np.random.default_rng(0)
    weights = {
        "w0": random.standard_normal((16, 4, 1, 1)), "b0": random.standard_normal(16),
        "w1": random.standard_normal((4, 16, 3, 3)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["v0"], "first"),
        helper.make_node("Conv", ["v0", "w1"], ["v1"], "second", pads=[pad] * 4),
        helper.make_node("Relu", ["v1"], ["v2"], "relu"),
        helper.make_node("MaxPool", ["v2"], ["y"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
    ]

    def value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    outer = ["H", "W"] if pad else ["H1", "W1"]
    graph = helper.make_graph(
        nodes, "g", [value("x", ["N", 4, "H", "W"])], [value("y", ["N", 4, "H/2", "W/2"])],
        [numpy_helper.from_array(np.asarray(w, "f4"), n) for n, w in weights.items()],
        value_info=[value("v1", ["N", 4, *outer]), value("v2", ["N", 4, "H1", "W1"])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def _sizes(info: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim]


@pytest.mark.parametrize("pinned", [False, True])
def test_a_bias_map_fixes_the_sizes_of_the_input(tmp_path: Path, pinned: bool) -> None:
    path, shapes = _model(tmp_path / "m.onnx", 1), {"x": ["N", 4, 12, 10]}
    made = merge(path, output=tmp_path / "o.onnx", shapes=shapes)
    assert made.decided.decisions.merges[0].border == "bias_map"
    if pinned:
        merge(path, output=tmp_path / "o.onnx", shapes=shapes, decisions=tmp_path / "o.json")
    graph = onnx.load(tmp_path / "o.onnx").graph
    assert _sizes(graph.input[0]) == ["N", 4, 12, 10]
    assert _sizes(graph.output[0]) == ["N", 4, 0, 0]
    assert {i.name: _sizes(i) for i in graph.value_info} == {"v1": ["N", 4, 12, 10]}


def test_merges_that_hold_for_all_sizes_leave_them_open(tmp_path: Path) -> None:
    made = merge(_model(tmp_path / "m.onnx", 0), shapes={"x": ["N", 4, 12, 10]})
    assert len(made.decided.decisions.merges) == 1
    assert _sizes(made.model.graph.input[0]) == ["N", 4, "H", "W"]
    assert len(made.model.graph.value_info) == 2
