"""Element types: those that run, those that are refused by name, and those that fold away."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend_models import load, model, operators, value
from onnx import TensorProto, helper

from motet.runtime.errors import ModelError

REFUSED = ["BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2", "INT4", "UINT4", "FLOAT4E2M1"]


@pytest.mark.parametrize("name", REFUSED)
def test_an_input_or_output_of_a_type_that_does_not_run(tmp_path: Path, name: str) -> None:
    elem = getattr(TensorProto, name)
    for one, other in ((elem, TensorProto.FLOAT), (TensorProto.FLOAT, elem)):
        node = helper.make_node("Cast", ["x"], ["y"], name="c", to=other)
        proto = model([node], [value("x", [2], one)], [value("y", [2], other)], opset=23)
        with pytest.raises(ModelError, match=r"element type .* convert the model to float32"):
            load(proto, tmp_path)


def test_a_value_inside_the_graph_of_a_type_that_does_not_run(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], name="narrow", to=TensorProto.BFLOAT16),
        helper.make_node("Cast", ["h"], ["y"], name="wide", to=TensorProto.FLOAT),
    ]
    with pytest.raises(ModelError, match="node 'narrow' has the element type bfloat16"):
        load(model(nodes, [value("x", [2])], [value("y", [2])], opset=23), tmp_path)


def test_weights_of_four_bits_fold_into_floats(tmp_path: Path) -> None:
    weight = onnx.TensorProto(name="w", data_type=TensorProto.INT4, dims=[2, 2])
    weight.raw_data = bytes([0x21, 0xF3])  # 1, 2, 3, -1
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"], name="d"),
        helper.make_node("Add", ["x", "d"], ["y"], name="a"),
    ]
    scale = {"s": np.array(0.5, np.float32)}
    proto = model(nodes, [value("x", [2, 2])], [value("y", [2, 2])], scale, opset=21)
    proto.graph.initializer.append(weight)
    proto.ir_version = 10
    imported = load(proto, tmp_path)
    assert operators(imported) == ["relax.add"]
    body = imported.module["m"].body
    added = body.blocks[0].bindings[0].value.args[1].value.numpy()
    np.testing.assert_array_equal(added, np.array([[0.5, 1], [1.5, -0.5]], np.float32))
