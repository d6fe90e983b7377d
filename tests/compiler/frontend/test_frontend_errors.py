from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend_models import FLOAT, load, model, relu_model, saved, single, value
from onnx import TensorProto, helper, numpy_helper

from motet.compiler.frontend.load import load_model, merge
from motet.runtime.errors import ModelError, SpecError, UnsupportedOperatorError

X = np.zeros((2, 3), np.float32)


def fails(proto: onnx.ModelProto, folder: Path, *words: str, kind: type = ModelError) -> str:
    with pytest.raises(kind) as caught:
        load(proto, folder)
    text = str(caught.value)
    for word in ("m.onnx", *words):
        assert word in text, text
    assert "\n" not in text
    return text


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"absent\.onnx.*cannot be read"):
        load_model(tmp_path / "absent.onnx", "m")


def test_truncated_file(tmp_path):
    weight = np.ones((300, 300), np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    data = model([node], [value("x", [1, 300])], [value("y", [1, 300])], {"w": weight})
    path = tmp_path / "m.onnx"
    for part in (0.1, 0.5, 0.99):
        whole = data.SerializeToString()
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(ModelError, match=r"m\.onnx"):
            load_model(path, "m")


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 100, b"<html>not a model</html>", bytes(range(256))]
)
def test_garbage_file(tmp_path, data):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"m\.onnx.*not an ONNX model"):
        load_model(path, "m")


def test_graph_without_outputs(tmp_path):
    proto = relu_model()
    del proto.graph.output[:]
    fails(proto, tmp_path, "no outputs")


def test_cyclic_graph(tmp_path):
    nodes = [
        helper.make_node("Relu", ["x"], ["start"], name="fine"),
        helper.make_node("Add", ["start", "b"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
    ]
    proto = model(nodes, [value("x", [2])], [value("b", [2])])
    text = fails(proto, tmp_path, "cyclic")
    assert "'first'" in text or "'second'" in text


def test_unsorted_graph_is_sorted(tmp_path):
    nodes = [
        helper.make_node("Neg", ["a"], ["y"], name="last"),
        helper.make_node("Relu", ["x"], ["a"], name="first"),
    ]
    imported = load(model(nodes, [value("x", [2])], [value("y", [2])]), tmp_path)
    assert imported.outputs[0].shape == (2,)


def test_undefined_input(tmp_path):
    node = helper.make_node("Add", ["x", "ghost"], ["y"], name="sum")
    fails(model([node], [value("x", [2])], [value("y", [2])]), tmp_path, "'sum'", "'ghost'")


def test_value_defined_twice(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["y"], name=n) for n in ("one", "two")]
    fails(model(nodes, [value("x", [2])], [value("y", [2])]), tmp_path, "'y'", "'one'", "'two'")


def test_unknown_operators_are_all_listed(tmp_path):
    nodes = [
        helper.make_node("Frobnicate", ["x"], ["a"], name="f1"),
        helper.make_node("Frobnicate", ["a"], ["b"], name="f2"),
        helper.make_node("Zap", ["b"], ["y"], name="z"),
    ]
    proto = model(nodes, [value("x", [2])], [value("y", [2])])
    fails(
        proto, tmp_path, "Frobnicate (2x", "'f1'", "Zap (1x", "'z'", kind=UnsupportedOperatorError
    )


def test_operators_without_lowering_are_all_listed(tmp_path):
    nodes = [
        helper.make_node("Binarizer", ["x"], ["d"], name="steps", domain="ai.onnx.ml"),
        helper.make_node("Noise", ["x"], ["r"], name="noise", domain="my.own"),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    proto = model(nodes, [value("x", [2, 2])], [value("d", [2, 2]), value("y", [2, 2])])
    proto.opset_import.extend(
        [helper.make_opsetid("ai.onnx.ml", 1), helper.make_opsetid("my.own", 1)]
    )
    listed = ("ai.onnx.ml::Binarizer (1x", "my.own::Noise (1x", "'noise'")
    fails(proto, tmp_path, *listed, kind=UnsupportedOperatorError)


def test_foreign_domain(tmp_path):
    node = helper.make_node("FusedGemm", ["x"], ["y"], name="fused", domain="com.microsoft")
    proto = model([node], [value("x", [2])], [value("y", [2])])
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    fails(proto, tmp_path, "com.microsoft::FusedGemm", "'fused'", kind=UnsupportedOperatorError)


@pytest.mark.parametrize(
    ("opset", "words"), [(0, "has no version 0"), (9999, "newer than the installed")]
)
def test_opset_out_of_range(tmp_path, opset, words):
    node = helper.make_node("Relu", ["x"], ["y"])
    fails(model([node], [value("x", [2])], [value("y", [2])], opset=opset), tmp_path, words)


def test_no_default_opset(tmp_path):
    proto = relu_model()
    proto.opset_import[0].domain = "my.domain"
    fails(proto, tmp_path, "no version of the default operator set")


def test_lying_output_shape(tmp_path):
    fails(relu_model((2, 3), (2, 4)), tmp_path, "'y'", "[2, 4]", "[2, 3]")


def test_lying_inner_shape(tmp_path):
    nodes = [
        helper.make_node("Relu", ["x"], ["middle"]),
        helper.make_node("Neg", ["middle"], ["y"]),
    ]
    proto = model(nodes, [value("x", [2, 3])], [value("y", [2, 3])])
    proto.graph.value_info.append(value("middle", [3, 2]))
    fails(proto, tmp_path, "'middle'", "[3, 2]")


def test_lying_output_type(tmp_path):
    node = helper.make_node("Relu", ["x"], ["y"])
    proto = model([node], [value("x", [2])], [value("y", [2], TensorProto.INT64)])
    fails(proto, tmp_path, "y")


def test_initializer_shorter_than_its_shape(tmp_path):
    node = helper.make_node("Add", ["x", "w"], ["y"])
    proto = model([node], [value("x", [4])], [value("y", [4])], {"w": np.ones(4, np.float32)})
    proto.graph.initializer[0].raw_data = b"\0" * 12
    fails(proto, tmp_path, "'w'", "12 bytes", "16")


def test_operands_that_do_not_fit(tmp_path):
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    proto = model([node], [value("x", [2, 3])], [value("y", [2, 5])], {"w": np.ones((4, 5), "f")})
    fails(proto, tmp_path, "product")


@pytest.mark.parametrize("dims", [(2**60,), (2**31, 1), (70000, 70000)])
def test_giant_input_is_refused_at_once(tmp_path, dims):
    fails(relu_model(dims), tmp_path, "'x'", "elements")


def test_giant_initializer_is_refused(tmp_path):
    proto = relu_model()
    proto.graph.initializer.append(TensorProto(name="w", data_type=FLOAT, dims=[2**40]))
    fails(proto, tmp_path, "'w'", "elements")


def test_giant_result_is_refused(tmp_path):
    shape = {"s": np.array([2**20, 2**20], np.int64)}
    node = helper.make_node("Expand", ["x", "s"], ["y"], name="blow")
    fails(model([node], [value("x", [1, 1])], [value("y", None)], shape), tmp_path, "elements")


def test_giant_total_is_refused(tmp_path):
    nodes = [helper.make_node("Relu", [f"x{i}"], [f"y{i}"]) for i in range(3)]
    proto = model(
        nodes,
        [value(f"x{i}", [2**31 - 1]) for i in range(3)],
        [value(f"y{i}", [2**31 - 1]) for i in range(3)],
    )
    fails(proto, tmp_path, "bytes")


def external(folder: Path, location: str, data: bytes | None, length: int = 16) -> onnx.ModelProto:
    node = helper.make_node("Add", ["x", "w"], ["y"])
    proto = model([node], [value("x", [4])], [value("y", [4])], {"w": np.ones(4, np.float32)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", "0"), ("length", str(length))):
        tensor.external_data.add(key=key, value=text)
    if data is not None:
        (folder / location).write_bytes(data)
    return proto


def test_external_data_is_read(tmp_path):
    data = np.arange(4, dtype=np.float32).tobytes()
    imported = load(external(tmp_path, "w.bin", data), tmp_path)
    assert imported.outputs[0].shape == (4,)


def test_external_data_missing(tmp_path):
    fails(external(tmp_path, "w.bin", None), tmp_path, "'w'", "missing")


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname"])
def test_external_data_outside_the_folder(tmp_path, location):
    fails(external(tmp_path, location, None), tmp_path, "'w'", "not inside the model's folder")


def test_external_data_too_short(tmp_path):
    fails(external(tmp_path, "w.bin", b"\0" * 8), tmp_path, "'w'", "8 bytes")


def test_string_tensors_are_refused(tmp_path):
    node = helper.make_node("Identity", ["x"], ["y"])
    info = [value(n, [2], TensorProto.STRING) for n in ("x", "y")]
    fails(model([node], info[:1], info[1:]), tmp_path, "'x'", "string")


def test_refused_use_names_node_and_reason(tmp_path):
    rois = {"r": np.zeros((1, 4), np.float32), "b": np.zeros(1, np.int64)}
    proto = single("RoiAlign", {"x": np.zeros((1, 1, 4, 4), np.float32)}, rois, mode="max")
    fails(proto, tmp_path, "'the_node'", "RoiAlign", "max", kind=UnsupportedOperatorError)


def test_the_place_of_an_extreme_of_nothing_is_refused(tmp_path):
    proto = single("ArgMax", {"x": np.zeros((2, 0), np.float32)}, keepdims=0, opset=13, axis=1)
    fails(proto, tmp_path, "size 0", kind=UnsupportedOperatorError)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"z": [1]}, "its inputs are x"),
        ({"x": [4]}, "rank 1"),
        ({"x": [4, 5]}, "fixed to 3"),
        ({"x": [0, 3]}, "positive"),
    ],
)
def test_bad_shapes(tmp_path, shapes, words):
    with pytest.raises(SpecError, match=words):
        load_model(saved(relu_model(["N", 3]), tmp_path), "m", shapes)


def test_equal_names_are_equal_dimensions(tmp_path):
    node = helper.make_node("Add", ["a", "b"], ["y"])
    proto = model([node], [value("a", ["N"]), value("b", ["N"])], [value("y", ["N"])])
    with pytest.raises(SpecError, match="'N' is 3 elsewhere"):
        load(proto, tmp_path, shapes={"a": [3], "b": [4]})
    imported = load(proto, tmp_path, shapes={"a": [3]})
    assert [info.shape for info in imported.inputs] == [(3,), (3,)]


def test_bad_name(tmp_path):
    with pytest.raises(SpecError, match="Bad-Name"):
        load_model(saved(relu_model(), tmp_path), "Bad-Name")


def test_merge_refuses_equal_names(tmp_path):
    imported = load(relu_model(), tmp_path)
    with pytest.raises(SpecError, match="two models"):
        merge([imported, imported])


def test_initializer_defined_twice(tmp_path):
    proto = relu_model()
    for _ in range(2):
        proto.graph.initializer.append(numpy_helper.from_array(X, "w"))
    fails(proto, tmp_path, "'w'", "twice")
