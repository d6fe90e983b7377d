"""Integers that ONNX gives no meaning are refused where they stand, by name."""

from __future__ import annotations

import onnx
import pytest
from frontend_models import load, relu_model
from onnx import TensorProto, helper

from motet.compiler.frontend.load import load_model
from motet.runtime.errors import ModelError


def refused(proto: onnx.ModelProto, folder, *words: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(proto, folder)
    for word in ("m.onnx", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("version", [0, -1, 2**31])
def test_version_of_another_domain(tmp_path, version):
    proto = relu_model()
    proto.opset_import.append(helper.make_opsetid("com.microsoft", version))
    refused(proto, tmp_path, "com.microsoft", f"no version {version}")


@pytest.mark.parametrize("place", ["input", "output", "value_info"])
def test_element_type_of_a_value(tmp_path, place):
    proto = relu_model()
    infos = getattr(proto.graph, place)
    if not infos:
        infos.append(helper.make_tensor_value_info("x", 1, [2, 3]))
    infos[0].type.tensor_type.elem_type = 99
    refused(proto, tmp_path, f"'{infos[0].name}'", "element type 99")


def constant_model(tensor: TensorProto) -> onnx.ModelProto:
    """Relu beside a Constant inside the branches of an If."""
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], name="deep", value=tensor)],
        "branch",
        [],
        [onnx.ValueInfoProto(name="c")],
    )
    proto = relu_model()
    flag = helper.make_node("Cast", ["x"], ["flag"], to=TensorProto.BOOL)
    choice = helper.make_node("If", ["flag"], ["z"], then_branch=branch, else_branch=branch)
    proto.graph.node.extend([flag, choice])
    return proto


def test_element_type_of_a_tensor_deep_inside(tmp_path):
    tensor = TensorProto(data_type=77, dims=[1], raw_data=b"\0" * 4)
    refused(constant_model(tensor), tmp_path, "node 'deep'", "element type 77")


def test_negative_size_of_an_initializer(tmp_path):
    proto = relu_model()
    proto.graph.initializer.append(TensorProto(name="w", data_type=1, dims=[-2, 2]))
    refused(proto, tmp_path, "initializer 'w'", "[-2, 2]")


def test_too_many_dimensions(tmp_path):
    refused(relu_model([1] * 70), tmp_path, "'x'", "70 dimensions")


def test_input_of_no_element_type(tmp_path):
    proto = relu_model()
    proto.graph.input[0].type.tensor_type.elem_type = 0
    refused(proto, tmp_path, "input 'x' has no element type")


def test_initializer_of_no_element_type(tmp_path):
    proto = relu_model()
    proto.graph.initializer.append(TensorProto(name="w", dims=[1], raw_data=b"1234"))
    refused(proto, tmp_path, "initializer 'w' has no element type")


def test_external_file_of_an_impossible_name(tmp_path):
    proto = relu_model()
    tensor = proto.graph.initializer.add(name="w", data_type=1, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="a\0b")
    refused(proto, tmp_path, "initializer 'w'", r"'a\x00b' is no file name")


def test_output_declared_twice(tmp_path):
    proto = relu_model()
    proto.graph.output.append(proto.graph.output[0])
    refused(proto, tmp_path, "output 'y' is declared twice")


def test_attribute_that_refers_to_no_function(tmp_path):
    proto = relu_model()
    proto.graph.node[0].attribute.add(name="alpha", type=1, ref_attr_name="outer")
    refused(proto, tmp_path, "'act' (Relu)", "'alpha' refers to 'outer'")


def test_attribute_of_no_type(tmp_path):
    proto = relu_model()
    proto.graph.node[0].attribute.add(name="alpha", i=1)
    refused(proto, tmp_path, "'act' (Relu)", "'alpha' has no type")


def test_split_into_another_number_of_outputs(tmp_path):
    proto = relu_model()
    node = helper.make_node("Split", ["x"], ["y", "z"], name="cut", num_outputs=1)
    proto.graph.node[0].CopyFrom(node)
    refused(proto, tmp_path, "'cut' (Split) has 2 outputs, but its num_outputs is 1")


def test_operator_whose_name_is_no_text(tmp_path):
    content = relu_model().SerializeToString().replace(b"Relu", b"R\xfflu")
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx"):
        load_model(tmp_path / "m.onnx", "m")
