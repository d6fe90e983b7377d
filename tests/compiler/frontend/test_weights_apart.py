"""Weights that are not parsed have the values, and the errors, of those that are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from motet.compiler.frontend.load import load_model
from motet.compiler.frontend.reading import read_model
from motet.compiler.frontend.weightless import LARGE_BYTES
from motet.compiler.frontend.weights_apart import HERE, parse_apart, values_here
from motet.runtime.errors import ModelError

_TYPES = ["float32", "float64", "float16", "int8", "uint8", "int64", "int32", "bool"]
_CHANNELS = 64


def _model(*tensors: onnx.TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy")
    return helper.make_model(helper.make_graph([node], "g", [x], [y], list(tensors)))


def _weights(dtype: str, *shape: int) -> onnx.TensorProto:
    values = np.random.default_rng(7).integers(0, 2, shape).astype(dtype)
    return numpy_helper.from_array(values, f"{dtype}_{'x'.join(map(str, shape))}")


def _is_apart(tensor: onnx.TensorProto) -> bool:
    return any(entry.value == HERE for entry in tensor.external_data)


@given(st.lists(st.tuples(st.sampled_from(_TYPES), st.integers(0, 3), st.integers(0, 1500))))
def test_every_initialiser_has_the_values_that_protobuf_reads(
    given: list[tuple[str, int, int]],
) -> None:
    data = _model(*[_weights(*each) for each in given]).SerializeToString()
    apart, whole = parse_apart(data), onnx.load_model_from_string(data)
    for found, stored in zip(apart.graph.initializer, whole.graph.initializer, strict=True):
        expected = numpy_helper.to_array(stored)
        values = values_here(found, data) if _is_apart(found) else numpy_helper.to_array(found)
        assert values is not None
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values, expected)
    del apart.graph.initializer[:], whole.graph.initializer[:]
    assert apart == whole


def test_large_weights_are_left_out_and_small_ones_and_shapes_stay() -> None:
    tensors = [_weights("float32", 64, 65), _weights("float32", 8), _weights("int64", 4096)]
    parsed = parse_apart(_model(*tensors).SerializeToString())
    assert [_is_apart(tensor) for tensor in parsed.graph.initializer] == [True, False, False]
    assert parsed.ByteSize() < 8 * 4096 + 1024


def test_values_written_one_by_one_stay() -> None:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [2000], [0.5] * 2000)
    parsed = parse_apart(_model(tensor).SerializeToString())
    np.testing.assert_array_equal(numpy_helper.to_array(parsed.graph.initializer[0]), 0.5)


def test_dims_that_are_packed_are_read() -> None:
    tensor = _weights("float32", 2, 1030)
    data = _model(tensor).SerializeToString()
    unpacked = b"\x08\x02\x08\x86\x08"
    assert data.count(unpacked) == 1
    packed = data.replace(unpacked, b"\x0a\x03\x02\x86\x08")
    found = parse_apart(packed).graph.initializer[0]
    assert _is_apart(found)
    np.testing.assert_array_equal(values_here(found, packed), numpy_helper.to_array(tensor))


@pytest.mark.parametrize("cut", [1, 5, LARGE_BYTES, 4 * LARGE_BYTES])
def test_a_truncated_file_is_refused_as_by_protobuf(cut: int) -> None:
    data = _model(_weights("float32", 64, 64), _weights("float32", 64, 3)).SerializeToString()
    with pytest.raises(DecodeError):
        parse_apart(data[:-cut])


def test_a_graph_in_two_parts_is_one() -> None:
    first, second = _model(_weights("float32", 64, 65)), onnx.ModelProto()
    second.graph.initializer.append(_weights("float32", 64, 66))
    data = first.SerializeToString() + second.SerializeToString()
    assert parse_apart(data) == onnx.load_model_from_string(data)


def test_too_few_values_are_refused_by_name(tmp_path: Path) -> None:
    model = _model(_weights("float32", 64, 65))
    model.graph.initializer[0].dims[0] = 63
    onnx.save(model, tmp_path / "short.onnx")
    with pytest.raises(ModelError, match=r"'float32_64x65' stores 16640 bytes, but its shape"):
        load_model(tmp_path / "short.onnx", "m")


def test_a_file_that_names_the_mark_itself_is_refused(tmp_path: Path) -> None:
    tensor = TensorProto(name="w", dims=[2000], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", HERE), ("offset", "0"), ("length", "8000")):
        tensor.external_data.add(key=key, value=value)
    onnx.save(_model(tensor), tmp_path / "mark.onnx")
    with pytest.raises(ModelError, match="initializer 'w' cannot be read"):
        load_model(tmp_path / "mark.onnx", "m")


def test_a_subgraphs_own_weights_are_its_own(tmp_path: Path) -> None:
    """They may have the name of others outside."""
    outer = numpy_helper.from_array(np.ones((_CHANNELS, _CHANNELS), np.float32), "w")
    inner = numpy_helper.from_array(np.zeros((_CHANNELS, _CHANNELS), np.float32), "v")
    model = _model(outer)
    result = helper.make_tensor_value_info("r", TensorProto.FLOAT, [_CHANNELS, _CHANNELS])
    branch = helper.make_graph([helper.make_node("Identity", ["v"], ["r"])], "b", [], [result])
    branch.initializer.append(inner)
    model.graph.node.append(
        helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    )
    onnx.save(model, tmp_path / "branches.onnx")
    read = read_model(tmp_path / "branches.onnx", apart=True)
    own = read.proto.graph.node[1].attribute[0].g.initializer[0]
    np.testing.assert_array_equal(read.array(own), 0)
    np.testing.assert_array_equal(read.array(read.proto.graph.initializer[0]), 1)
