"""Element types: those that run, those that are refused by name, and those that fold away."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from bundle_runs import compiled
from frontend_models import load, model, operators, value
from onnx import TensorProto, helper

from motet.runtime.errors import ModelError


def test_an_input_of_a_type_that_does_not_run(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"], name="i")
    elem = TensorProto.COMPLEX64
    proto = model([node], [value("x", [2], elem)], [value("y", [2], elem)], opset=23)
    with pytest.raises(ModelError, match=r"element type complex64.* convert the model to float32"):
        load(proto, tmp_path)


def test_types_of_few_bits_run_in_carriers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], name="narrow", to=TensorProto.BFLOAT16),
        helper.make_node("Transpose", ["h"], ["t"], name="move"),
        helper.make_node("Add", ["t", "t"], ["y"], name="compute"),
    ]
    inputs, outputs = [value("x", [2, 3])], [value("y", [3, 2], TensorProto.BFLOAT16)]
    imported = load(model(nodes, inputs, outputs, opset=23), tmp_path)
    assert [info.dtype for info in imported.outputs] == ["bfloat16"]
    assert operators(imported) == [
        "motet.round_to", "relax.permute_dims", "relax.add", "motet.round_to", "motet.encode"
    ]  # fmt: skip


def test_weights_of_four_bits_stay_integers_for_passes(tmp_path: Path) -> None:
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
    assert operators(load(proto, tmp_path)) == ["relax.dequantize", "relax.add"]
    (result,) = compiled(proto, tmp_path).run(None, {"x": np.zeros((2, 2), np.float32)})
    np.testing.assert_array_equal(result, np.array([[0.5, 1], [1.5, -0.5]], np.float32))
